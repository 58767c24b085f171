"""The server with everything, over stdio: `python -m tests.support.everything_stdio NAME legacy|modern`.

The SDK's server speaks the era of the first request; here requests of the other era are refused before it sees them.
"""

from __future__ import annotations

import sys
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

from tests.support.everything import Everything

VERSION = "io.modelcontextprotocol/protocolVersion"


async def main(name: str, only: str) -> None:
    """Serve until stdin ends."""
    server = Everything(name).server()
    send, receive = anyio.create_memory_object_stream[Any](100)
    async with stdio_server() as (incoming, outgoing), anyio.create_task_group() as group:

        async def sift() -> None:
            async with send:
                async for one in incoming:
                    message = getattr(one, "message", None)
                    if isinstance(message, types.JSONRPCRequest) and is_modern(message) != (only == "modern"):
                        await outgoing.send(SessionMessage(refusal(message, only)))
                    else:
                        await send.send(one)

        group.start_soon(sift)
        options = server.create_initialization_options(NotificationOptions(True, True, True))
        await server.run(receive, outgoing, options)


def is_modern(message: types.JSONRPCRequest) -> bool:
    """Whether a request is of 2026-07-28."""
    return VERSION in ((message.params or {}).get("_meta") or {})


def refusal(message: types.JSONRPCRequest, only: str) -> types.JSONRPCError:
    """What a server of one era says to the other."""
    error = types.ErrorData(code=types.INVALID_PARAMS, message="Invalid request parameters")
    if only == "modern":
        data = {"supported": ["2026-07-28"], "requested": ""}
        error = types.ErrorData(code=-32022, message="Not this revision", data=data)
    return types.JSONRPCError(jsonrpc="2.0", id=message.id, error=error)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
