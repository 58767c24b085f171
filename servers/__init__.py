"""Bundled MCP servers; each runs alone and imports nothing of the platform."""
