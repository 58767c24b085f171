"""Runs: started, served at their border, recorded, resumed."""
