"""Where code that is not ours executes, and with what profile."""
