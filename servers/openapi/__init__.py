"""The operations of an HTTP API that describes itself with OpenAPI, as MCP tools."""
