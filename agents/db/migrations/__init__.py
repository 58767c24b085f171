"""Alembic scripts of the agents part."""
