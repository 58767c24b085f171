"""Versions of one server: each answers with its own name, and fails, waits or is slow when told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.everything import Everything
from tests.support.upstreams import serving


@dataclass
class Version:
    """One version behind an address. `calls` counts what was called; `seen` the sessions that came."""

    name: str
    more: bool = False
    """Whether it has a tool that the others lack."""
    failing: bool = False
    slow: float = 0.0
    calls: int = 0
    running: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a call that says `hold` is under way."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets it go on."""

    def app(self) -> ASGIApp:
        """The ASGI app."""
        inner = Everything(self.name, extra_tool=self.more).app()

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            body, event = b"", await receive()
            while event["type"] == "http.request":
                body += event.get("body", b"")
                if not event.get("more_body"):
                    break
                event = await receive()
            given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def again() -> Message:
                return given.pop() if given else await receive()

            if b'"tools/call"' not in body:
                await inner(scope, again, send)
                return
            self.calls += 1
            self.running += 1
            try:
                await self._as_told(body, send)
                if not self.failing:
                    await inner(scope, again, send)
            finally:
                self.running -= 1

        return serve

    async def _as_told(self, body: bytes, send: Send) -> None:
        if b'"hold"' in body:
            self.held.set()
            await self.release.wait()
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.failing:
            error = {"code": -32603, "message": "This version is broken"}
            told = orjson.dumps({"jsonrpc": "2.0", "id": orjson.loads(body)["id"], "error": error})
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": told})


@contextlib.asynccontextmanager
async def running(version: Version) -> AsyncGenerator[str]:
    """The version on loopback; gives the URL of its endpoint."""
    async with serving(version.app()) as base:
        yield f"{base}/mcp"
