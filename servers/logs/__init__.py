"""The logs server: bounded, redacted search over the log files of the platform."""
