"""What is wrong with a server, by name: looked at from outside, step by step, each named fault with its next step."""
