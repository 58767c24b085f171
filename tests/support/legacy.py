"""A legacy server by hand: the handshake is good, what becomes of everything else is said by the test."""

from __future__ import annotations

from typing import Any

from tests.support.upstreams import Behaviour, Exchange

TOOL = {"name": "act", "inputSchema": {"type": "object"}}
CALL: dict[str, Any] = {"name": "act", "arguments": {}}
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def legacy(act: Behaviour, listening: Behaviour | None = None, told: Behaviour | None = None) -> Behaviour:
    """A server of 2025-11-25 with one tool, which is `act`.

    `listening` serves the session's own stream; `told` takes what the client answers to the server's questions.
    """

    async def behave(one: Exchange) -> None:
        method = one.message.get("method")
        if one.head.startswith(b"GET") and listening is not None:
            await listening(one)
        elif one.head.startswith(b"GET") or b"2026-07-28" in one.head:
            await one.whole(b"{}", "405 Method Not Allowed")
        elif method == "initialize":
            result: dict[str, Any] = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "raw"},
            }
            await one.answer(result, f"mcp-session-id: session-{one.message['id']}\r\n")
        elif method == "tools/list":
            await one.answer({"tools": [TOOL]})
        elif method == "tools/call":
            await act(one)
        else:
            if told is not None and one.message and method is None:
                await told(one)
            await one.whole(b"", "202 Accepted")

    return behave


def event(body: bytes) -> bytes:
    """One message on an event stream."""
    return b"data: " + body + b"\r\n\r\n"
