"""What takes minutes: leaks, kill storms, fuzzing. Each has a short seeded form in the suite."""
