"""Secrets: sealed at rest, wrapped so that they do not print."""
