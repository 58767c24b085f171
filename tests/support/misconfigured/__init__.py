"""Servers that are wrong in one way each, as people really get them wrong, and the name that the doctor owes each."""
