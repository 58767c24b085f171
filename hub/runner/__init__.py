"""The process that owns every child process of this machine."""
