"""MCP as the agents part speaks it: a small face for tools in both eras, and a client of the hub."""
