"""What a stranger may send, drawn from a seed: whole HTTP requests to a hub, and inputs of its pure functions."""
