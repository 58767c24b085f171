"""The databases server: look into SQLite files without a way to change them."""
