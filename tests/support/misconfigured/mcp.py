"""A small MCP server by hand, right in both eras, whose every answer can be made wrong."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.upstreams import Exchange

TOOL: dict[str, Any] = {"name": "act", "description": "Acts.", "inputSchema": {"type": "object"}}
MODERN_LIST = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}

Answer = Callable[["Asked"], Awaitable[None]]


@dataclass
class Asked:
    """One request, parsed as far as it goes."""

    one: Exchange
    method: str
    path: str
    headers: dict[str, str]

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON."""
        return self.one.message

    @property
    def modern(self) -> bool:
        """Whether it is a request of 2026-07-28."""
        return self.headers.get("mcp-protocol-version") == "2026-07-28"

    async def reply(
        self, status: int, body: bytes = b"", kind: str = "application/json", more: dict[str, str] | None = None
    ) -> None:
        """One whole answer."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (more or {}).items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        await self.one.send(head.encode() + body)

    async def result(self, result: Any, more: dict[str, str] | None = None, kind: str = "application/json") -> None:
        """A JSON-RPC result."""
        body = orjson.dumps({"jsonrpc": "2.0", "id": self.message.get("id"), "result": result})
        await self.reply(200, body, kind, more)

    async def error(self, code: int, text: str, status: int = 200, more: dict[str, str] | None = None) -> None:
        """A JSON-RPC error."""
        error = {"jsonrpc": "2.0", "id": self.message.get("id"), "error": {"code": code, "message": text}}
        await self.reply(status, orjson.dumps(error), more=more)

    async def stream(self, *events: bytes) -> None:
        """The head of an event stream, and its first events."""
        await self.one.send(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in events:
            await self.chunk(event)

    async def chunk(self, data: bytes) -> None:
        """More of it."""
        await self.one.send(b"%x\r\n%b\r\n" % (len(data), data))


@dataclass
class Mcp:
    """The server. `own` answers some methods in its own way; `web` what is not at `path`."""

    eras: tuple[str, ...] = ("modern", "legacy")
    path: str = "/mcp"
    tools: list[dict[str, Any]] = field(default_factory=lambda: [TOOL])
    capabilities: dict[str, Any] = field(default_factory=lambda: {"tools": {}})
    own: dict[str, Answer] = field(default_factory=dict[str, Answer])
    web: Answer | None = None
    before: Callable[[Asked], Awaitable[bool]] | None = None
    """Asked first; True: it has answered."""
    more: dict[str, str] = field(default_factory=dict[str, str])
    """Headers of every answer."""

    async def __call__(self, one: Exchange) -> None:
        """Answer one request."""
        line, *rest = one.head.decode("latin-1").split("\r\n")
        method, path, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest) if name}
        asked = Asked(one, method, path.partition("?")[0], headers)
        if self.before is not None and await self.before(asked):
            return
        if asked.path != self.path:
            await (self.web or nothing)(asked)
            return
        if method != "POST":
            await (self.own.get(method) or _no_stream)(asked)
            return
        name = str(asked.message.get("method", ""))
        if name in self.own:
            await self.own[name](asked)
        elif asked.modern != ("modern" in self.eras) and "legacy" not in self.eras:
            await asked.error(-32022, "Unsupported protocol version", 400)
        elif asked.modern:
            await self._modern(asked, name)
        else:
            await self._legacy(asked, name)

    async def _modern(self, asked: Asked, name: str) -> None:
        if "modern" not in self.eras:
            await asked.error(-32600, "Bad Request: Missing session ID", 400)
        elif name == "server/discover":
            told = {"supportedVersions": ["2026-07-28"], "capabilities": self.capabilities}
            await asked.result(MODERN_LIST | told, self.more)
        elif name == "tools/list":
            await asked.result(MODERN_LIST | {"tools": self.tools}, self.more)
        elif name == "subscriptions/listen":
            await asked.stream(acknowledged(asked))
            await asyncio.Event().wait()
        else:
            await asked.error(-32601, "Method not found", 404)

    async def _legacy(self, asked: Asked, name: str) -> None:
        session = self.more | {"mcp-session-id": "s1"}
        if name == "initialize":
            told = {
                "protocolVersion": "2025-11-25",
                "capabilities": self.capabilities,
                "serverInfo": {"name": "by hand"},
            }
            await asked.result(told, session)
        elif name.startswith("notifications/"):
            await asked.reply(202)
        elif name == "tools/list":
            await asked.result({"tools": self.tools}, self.more)
        else:
            await asked.error(-32601, "Method not found")


def acknowledged(asked: Asked) -> bytes:
    """The first event of a subscription."""
    meta = {"io.modelcontextprotocol/subscriptionId": asked.message.get("id")}
    told = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged"}
    return b"data: %b\n\n" % orjson.dumps(told | {"params": {"notifications": {}, "_meta": meta}})


async def nothing(asked: Asked) -> None:
    """Nothing is there."""
    await asked.reply(404, b"Not Found", "text/plain")


async def page(asked: Asked) -> None:
    """A web site."""
    await asked.reply(200, b"<!doctype html><title>Welcome</title>", "text/html; charset=utf-8")


async def _no_stream(asked: Asked) -> None:
    await asked.reply(200 if asked.method == "DELETE" else 405)


def zipped(asked: Asked) -> bytes:
    """A result, compressed."""
    return gzip.compress(orjson.dumps({"jsonrpc": "2.0", "id": asked.message.get("id"), "result": {}}))
