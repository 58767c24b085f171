"""The REST face of the catalog, thin over services."""
