"""A stdio server for the command line's tests: a number, a failure, a picture, and its own arguments."""

import base64
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ImageContent, TextContent

server = MCPServer("calculator")


@server.tool()
async def add(a: int, b: int, ctx: Context) -> int:
    """Add two numbers."""
    await ctx.report_progress(1, 2, "half way")
    return a + b


@server.tool()
def shout(text: str) -> str:
    """Say a text in red, as a hostile server would."""
    return f"\x1b[31m{text}\x1b[0m"


@server.tool()
def refuse() -> str:
    """Always fail."""
    raise ValueError("the tide is out")


@server.tool()
def picture() -> list[ImageContent | TextContent]:
    """A picture of one byte."""
    return [ImageContent(type="image", data=base64.b64encode(b"\x89").decode(), mime_type="image/png")]


@server.tool()
def started_with() -> str:
    """The arguments that this server was started with."""
    return " ".join(sys.argv[1:])


server.run("stdio")
