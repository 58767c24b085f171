"""May this principal do that? One seam for lists and calls."""
