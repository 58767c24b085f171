"""One page group a file: each view asks the hub, and gives back a typed context."""
