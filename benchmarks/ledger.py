"""A server that counts what it was really asked to do, to stand behind what is killed and broken: in both eras.

Every `write` is a line in the ledger's file, so that a duplicate shows whichever process wrote it. Tools: `write`
(says nothing of repeating), `read` (only reads), `put` (may be repeated), `slow_read` (reads for a moment). It serves
`/mcp` in both eras and the old pair of transports at `/sse`; with `--stdio` its standard streams, in the legacy era. It
imports nothing of ours: it is also started by path, as a stdio server of the hub.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import orjson

MODERN = "2026-07-28"
SCHEMA = {"type": "object", "properties": {"key": {"type": "string"}, "fault": {"type": "string"}}}
TOOLS: list[dict[str, Any]] = [
    {"name": "write", "inputSchema": SCHEMA},
    {"name": "read", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
    {"name": "put", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": False, "idempotentHint": True}},
    {"name": "slow_read", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
]
SLOW_SECONDS = 0.3

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Ledger:
    """What was done, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def done(self, tool: str, key: str) -> None:
        """One line, written at once."""
        with self._path.open("ab") as file:
            file.write(orjson.dumps([tool, key]) + b"\n")

    def entries(self, tool: str) -> list[str]:
        """The keys that this tool was called with, in order."""
        if not self._path.exists():
            return []
        rows = [orjson.loads(line) for line in self._path.read_bytes().splitlines()]
        return [key for name, key in rows if name == tool]


def result_of(ledger: Ledger, message: dict[str, Any], modern: bool) -> dict[str, Any] | None:
    """The result of a request; None for a method that is not known."""
    method = message.get("method")
    params: dict[str, Any] = message.get("params") or {}
    more: dict[str, Any] = {"resultType": "complete"} if modern else {}
    cached: dict[str, Any] = {"ttlMs": 0, "cacheScope": "private"} if modern else {}
    match method:
        case "initialize":
            told: dict[str, Any] = {"protocolVersion": params.get("protocolVersion"), "capabilities": {"tools": {}}}
            return told | {"serverInfo": {"name": "ledger", "version": "1"}}
        case "server/discover" if modern:
            spoken: dict[str, Any] = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
            return spoken | more | cached
        case "tools/list":
            return {"tools": TOOLS} | more | cached
        case "tools/call":
            arguments: dict[str, Any] = params.get("arguments") or {}
            key = str(arguments.get("key", ""))
            ledger.done(str(params.get("name")), key)
            return {"content": [{"type": "text", "text": key}]} | more
        case "ping":
            return {}
        case _:
            return None


def answered(ledger: Ledger, message: dict[str, Any], modern: bool = False) -> bytes:
    """The whole answer to a request."""
    result = result_of(ledger, message, modern)
    unknown = {"error": {"code": -32601, "message": "Method not found"}}
    told = unknown if result is None else {"result": result}
    return orjson.dumps({"jsonrpc": "2.0", "id": message.get("id")} | told)


async def _slowly(message: dict[str, Any]) -> None:
    if (message.get("params") or {}).get("name") == "slow_read":
        await asyncio.sleep(SLOW_SECONDS)


class Web:
    """The server over HTTP: an ASGI app. `spoil` may replace the answer to a call on an event stream of `/sse`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.spoil: Callable[[dict[str, Any], bytes], bytes | None] | None = None
        self.sessions: set[str] = set()
        self._streams: dict[str, asyncio.Queue[bytes | None]] = {}
        self._numbers = itertools.count(1)

    def forget(self) -> None:
        """Lose every session, as a restart does."""
        self.sessions.clear()
        for stream in self._streams.values():
            stream.put_nowait(None)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        path, method = scope["path"], scope["method"]
        body = b""
        while method == "POST":
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        message: dict[str, Any] = orjson.loads(body) if body else {}
        if path == "/sse" and method == "GET":
            await self._stream(receive, send)
        elif path == "/messages":
            await self._posted(scope["query_string"].decode(), message, send)
        elif method == "POST" and path == "/mcp":
            await self._post(headers, message, send)
        elif method == "DELETE":
            self.sessions.discard(headers.get(b"mcp-session-id", b"").decode())
            await _respond(send, 200, b"{}")
        else:
            await _respond(send, 405, b"")

    async def _post(self, headers: dict[bytes, bytes], message: dict[str, Any], send: Send) -> None:
        modern = headers.get(b"mcp-protocol-version") == MODERN.encode()
        session = headers.get(b"mcp-session-id", b"").decode()
        if message.get("method") == "initialize":
            session = f"s{os.getpid()}-{next(self._numbers)}"
            self.sessions.add(session)
            await _respond(send, 200, answered(self.ledger, message), [(b"mcp-session-id", session.encode())])
        elif not modern and session not in self.sessions:
            await _respond(send, 404, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"No session"}}')
        elif "id" not in message:
            await _respond(send, 202, b"")
        else:
            await _slowly(message)
            await _respond(send, 200, answered(self.ledger, message, modern))

    async def _stream(self, receive: Receive, send: Send) -> None:
        name = f"s{next(self._numbers)}"
        queue = self._streams[name] = asyncio.Queue()
        gone = asyncio.ensure_future(_left(receive))
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send(_chunk(f"event: endpoint\ndata: /messages?{name}\n\n".encode()))
        try:
            while True:
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait({getting, gone}, return_when=asyncio.FIRST_COMPLETED)
                piece = getting.result() if getting.done() else None
                getting.cancel()
                if piece is None:
                    break
                await send(_chunk(piece))
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            self._streams.pop(name, None)

    async def _posted(self, name: str, message: dict[str, Any], send: Send) -> None:
        stream = self._streams.get(name)
        if stream is None:
            await _respond(send, 404, b"")
            return
        await _respond(send, 202, b"")
        if "id" not in message or "method" not in message:
            return
        await _slowly(message)
        body = answered(self.ledger, message)
        piece: bytes | None = b"event: message\ndata: " + body + b"\n\n"
        if self.spoil is not None and message["method"] == "tools/call":
            piece = self.spoil(message, body)
            if piece == b"":
                return
        stream.put_nowait(piece)


def _chunk(body: bytes) -> Event:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve_pipes(ledger: Ledger) -> None:
    """Serve the standard streams. A call's argument `fault` says how to misbehave in answering it."""
    for line in sys.stdin.buffer:
        message = orjson.loads(line)
        if "id" not in message:
            continue
        params: dict[str, Any] = message.get("params") or {}
        arguments: dict[str, Any] = params.get("arguments") or {}
        fault, once = str(arguments.get("fault", "")), Path(str(arguments.get("once", "")))
        if fault and str(once) != ".":
            # Only the first time, as a fault that passes: the file remembers it across processes.
            if once.exists():
                fault = ""
            once.touch()
        if fault == "dies on the request":
            os._exit(3)
        body = answered(ledger, message)
        piece = misbehaved(fault, message, body) if fault else body + b"\n"
        if piece is None:
            os._exit(3)
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        if fault == "dies within the answer":
            os._exit(3)
        if fault == "endless answer":
            while True:
                sys.stdout.buffer.write(b"x" * 65_536)


def misbehaved(fault: str, message: dict[str, Any], body: bytes) -> bytes | None:
    """What is written instead of an answer; None: nothing, and the end of the process."""
    identifier = orjson.dumps(message["id"])
    match fault:
        case "black hole":
            return b""
        case "dies before the answer":
            return None
        case "dies within the answer":
            return body[: len(body) // 2]
        case "mismatched id":
            return b'{"jsonrpc":"2.0","id":"nobody","result":{}}\n'
        case "not JSON":
            return b"starting up...\n"
        case "invalid UTF-8":
            return b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"\xff"}]}}\n' % identifier
        case "deep JSON":
            deep = b"[" * 100_000 + b"]" * 100_000
            return b'{"jsonrpc":"2.0","id":%b,"result":{"content":%b}}\n' % (identifier, deep)
        case "duplicate keys":
            return b'{"jsonrpc":"2.0","id":%b,"result":{"content":[],"content":[]}}\n' % identifier
        case _:
            return b"{"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.file)
    if arguments.stdio:
        serve_pipes(ledger)
        return
    import uvicorn  # noqa: PLC0415 - a stdio server starts without it

    uvicorn.run(Web(ledger), host="127.0.0.1", port=arguments.port, log_level="warning")  # pyright: ignore[reportArgumentType] - ASGI


if __name__ == "__main__":
    main()
