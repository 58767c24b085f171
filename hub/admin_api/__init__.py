"""The REST face of administration: by resource, thin: admit, parse, call a service, render."""
