"""A cheap MCP server in both eras, to stand behind what is measured: `/N/mcp` has N tools (`/N/ANYTHING/mcp` too).

Tools: `echo` (text back), `big` (as many bytes as asked), `length` (of the text), `ticks` (progress events, then the
answer), and fillers. A POST to `/change` changes a description and tells everybody who listens.
Run as a script it prints `{"port": N}` and serves HTTP; with `--stdio` it serves its standard streams.
It imports nothing of ours: it is also started by path, as a stdio server of the hub.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

LEGACY, MODERN = "2025-11-25", "2026-07-28"
META = "io.modelcontextprotocol/"
INFO = {"name": "mock", "version": "1"}
NAMED = ("echo", "big", "ticks", "length")

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

UNKNOWN = b'"error":{"code":-32601,"message":"Method not found"}}'
STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
JSON_TYPE = (b"content-type", b"application/json")
SESSIONS = itertools.count(1)
OPEN: set[bytes] = set()
"""Sessions that were opened and not ended, counted for whoever looks for leaks at `/sessions`."""


class Changes:
    """How often the last tool was changed, and who is to be told."""

    def __init__(self) -> None:
        self.count = 0
        self.listeners: set[asyncio.Queue[bool]] = set()

    def another(self) -> None:
        """Change it once more."""
        self.count += 1
        for listener in self.listeners:
            listener.put_nowait(True)


CHANGES = Changes()


@functools.cache
def tools(count: int) -> list[dict[str, Any]]:
    """`count` definitions of the size that real servers have, some 300 bytes each."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        name = NAMED[number] if number < len(NAMED) else f"tool_{number:04d}"
        properties: dict[str, Any] = {
            "text": {"type": "string", "description": "What to work on, as plain text."},
            "count": {"type": "integer", "description": "How many of them."},
        }
        found.append(
            {
                "name": name,
                "description": f"Does what {name} does, and says so in one sentence of common length.",
                "inputSchema": {"type": "object", "properties": properties},
            }
        )
    return found


def _changing(count: int) -> dict[str, Any]:
    """The last tool, which says how often it was changed."""
    last = tools(count)[-1]
    if not CHANGES.count:
        return last
    return last | {"description": f"{last['description']} Changed {CHANGES.count} times."}


def result_of(method: str, params: dict[str, Any], modern: bool, count: int) -> dict[str, Any] | None:
    """The result of a request; None for a method that is not known."""
    if method == "tools/call":
        arguments: dict[str, Any] = params.get("arguments") or {}
        text = _text(str(params["name"]), arguments)
        result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
    elif method == "tools/list":
        result = {"tools": [*tools(count)[:-1], _changing(count)]}
        if modern:
            result |= {"ttlMs": 60_000, "cacheScope": "public"}
    elif method == "initialize":
        return {"protocolVersion": LEGACY, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": INFO}
    elif method == "server/discover" and modern:
        result = {"supportedVersions": [MODERN], "capabilities": {"tools": {"listChanged": True}}}
        result |= {"ttlMs": 60_000, "cacheScope": "public"}
    elif method == "ping":
        return {}
    else:
        return None
    if modern:
        result |= {"resultType": "complete", "_meta": {META + "serverInfo": INFO}}
    return result


def _text(name: str, arguments: dict[str, Any]) -> str:
    if name == "big":
        return "x" * int(arguments["count"])
    text = str(arguments.get("text", ""))
    return str(len(text)) if name == "length" else text


def answer(message: dict[str, Any], count: int) -> bytes:
    """The JSON-RPC answer to a request."""
    params: dict[str, Any] = message.get("params") or {}
    modern = META + "protocolVersion" in (params.get("_meta") or {})
    result = result_of(message["method"], params, modern, count)
    if result is None:
        return b'{"jsonrpc":"2.0","id":%b,%b' % (orjson.dumps(message["id"]), UNKNOWN)
    return orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})


def progress(message: dict[str, Any]) -> list[bytes]:
    """The events that a call of `ticks` tells before its answer."""
    params = message["params"]
    meta: dict[str, Any] = params.get("_meta") or {}
    token = meta.get("progressToken", 0)
    return [
        orjson.dumps(
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": number + 1},
            }
        )
        for number in range(int(params["arguments"]["count"]))
    ]


def is_ticks(message: dict[str, Any]) -> bool:
    """Whether this is a call that is answered by a stream of events."""
    return message.get("method") == "tools/call" and str(message["params"]["name"]).endswith("ticks")


async def app(scope: Event, receive: Receive, send: Send) -> None:
    """The ASGI face."""
    if scope["method"] != "POST" or scope["path"] == "/change":
        await _other(scope, send)
        return
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    message = orjson.loads(body)
    if "id" not in message or "method" not in message:
        await _respond(send, 202, b"")
        return
    if message["method"] == "subscriptions/listen":
        await _listen(receive, send, message)
        return
    count = int(scope["path"].split("/")[1])
    if is_ticks(message):
        await _stream(send, message, count)
        return
    extra: list[tuple[bytes, bytes]] = []
    if message["method"] == "initialize":
        session = b"m%d" % next(SESSIONS)
        OPEN.add(session)
        extra.append((b"mcp-session-id", session))
    reply = answer(message, count)
    await _respond(send, 404 if reply.endswith(UNKNOWN) else 200, reply, extra)


async def _other(scope: Event, send: Send) -> None:
    if scope["path"] == "/change":
        CHANGES.another()
        await _respond(send, 200, b'{"listening":%d}' % len(CHANGES.listeners))
        return
    if scope["path"] == "/sessions":
        await _respond(send, 200, b'{"open":%d}' % len(OPEN))
        return
    if scope["method"] == "DELETE":
        OPEN.difference_update(value for name, value in scope["headers"] if name == b"mcp-session-id")
    await _respond(send, 405 if scope["method"] == "GET" else 200, b"")


async def _respond(send: Send, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [JSON_TYPE, (b"content-length", b"%d" % len(body)), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, message: dict[str, Any], count: int) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": STREAM})
    pause = float(message["params"]["arguments"].get("pause", 0))
    for event in progress(message):
        await send({"type": "http.response.body", "body": _frame(event), "more_body": True})
        # Each event is to leave by itself, as it does where work lies between them.
        await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": _frame(answer(message, count))})


async def _listen(receive: Receive, send: Send, message: dict[str, Any]) -> None:
    """Tell of changes until the caller leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": STREAM})
    meta = {META + "subscriptionId": message["id"]}
    changes: asyncio.Queue[bool] = asyncio.Queue()
    left = asyncio.create_task(_gone(receive))
    CHANGES.listeners.add(changes)
    try:
        for told in itertools.count():
            method = "notifications/tools/list_changed" if told else "notifications/subscriptions/acknowledged"
            params = {"_meta": meta} if told else {"_meta": meta, "notifications": {"toolsListChanged": True}}
            event = orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})
            await send({"type": "http.response.body", "body": _frame(event), "more_body": True})
            change = asyncio.create_task(changes.get())
            await asyncio.wait({change, left}, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                change.cancel()
                return
    finally:
        CHANGES.listeners.discard(changes)
        left.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _frame(event: bytes) -> bytes:
    return b"event: message\r\ndata: %b\r\n\r\n" % event


def serve_stdio(count: int) -> None:
    """One JSON-RPC message a line, until the input ends."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        message = orjson.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if is_ticks(message):
            for event in progress(message):
                out.write(event + b"\n")
        out.write(answer(message, count) + b"\n")
        out.flush()


def listen() -> socket.socket:
    """A listening socket on a free port of this machine, whose number is told on standard output."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(orjson.dumps({"port": listener.getsockname()[1]}).decode(), flush=True)
    return listener


def serve_http(application: Any) -> None:
    """Serve an ASGI app on a free port until told to stop."""
    import uvicorn  # noqa: PLC0415 - the stdio form starts without it

    config = uvicorn.Config(
        application, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[listen()])


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--tools", type=int, default=6)
    arguments = parser.parse_args()
    if arguments.stdio:
        serve_stdio(arguments.tools)
    else:
        serve_http(app)


if __name__ == "__main__":
    main()
