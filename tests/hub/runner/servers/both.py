"""A dual-era stdio server on the official SDK."""

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("both")


@server.tool()
async def add(a: int, b: int, ctx: Context) -> int:
    """Add two numbers."""
    await ctx.report_progress(1, 2)
    return a + b


server.run("stdio")
