"""What is declared and approved, and the snapshot of it that calls read."""
