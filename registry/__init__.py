"""The web face of the catalog."""
