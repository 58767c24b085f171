"""HTTP/1.1 towards callers, for the workers and the runner."""
