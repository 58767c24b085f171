"""The MCP face: one call, from bytes to bytes."""
