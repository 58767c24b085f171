"""How much, how often, how many at once."""
