"""MCP up to 2025-11-25 over HTTP: a session by handshake, requests as POSTs, one GET stream.

A session belongs to whoever opened it (a client's session in the gateway, a bridge, or a survey); the server's
answer 404, or a 400 about the session, means that it was forgotten there, and raises `SessionLost`: nothing was
done, open a new one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Raw

from hub.errors import UpstreamError
from hub.upstream import jsonrpc
from hub.upstream.connection import Incoming, OnMessage, Upstream, answer, readable, streamed
from hub.upstream.http1 import Response

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Newest first."""

_BASE = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]

LONGEST_COMPLAINT = 500
"""Bytes of a plain text that may be about the session; a page that mentions one is another matter."""

Extra = tuple[tuple[bytes, bytes], ...]
"""Headers of the hub's own that go with every request of a session."""


class SessionLost(UpstreamError):
    """The server no longer knows the session; the request had no effect."""

    code = "session-lost"


class LegacySession:
    """One session with one server. `result` is the server's answer to `initialize`, as a JSON object."""

    def __init__(
        self, upstream: Upstream, identifier: bytes | None, version: str, result: bytes, extra: Extra = ()
    ) -> None:
        self.upstream = upstream
        self.id = identifier
        self.version = version
        self.result = result
        self._lost = False
        self.running = 0
        """Requests under way: an end of the session would end them."""
        self._headers = [*_BASE, (b"mcp-protocol-version", version.encode()), *extra]
        if identifier is not None:
            self._headers.append((b"mcp-session-id", identifier))

    @classmethod
    async def open(cls, upstream: Upstream, params: bytes, on_message: OnMessage, extra: Extra = ()) -> LegacySession:
        """The handshake, with `params` as the client's own. Raises `UpstreamError` when the server refuses."""
        body = b'{"jsonrpc":"2.0","id":"initialize","method":"initialize","params":%b}' % params
        response = await upstream.send(b"POST", [*_BASE, *extra], body, upstream.greeting)
        incoming = await answer(upstream, response, b'"initialize"', on_message, upstream.greeting)
        raw = incoming.message.members.get("result")
        identifier = response.headers.get(b"mcp-session-id")
        if raw is None:
            if identifier is not None:
                await cls(upstream, identifier, VERSIONS[0], b"{}").close()
            raise UpstreamError(
                f"Server {upstream.name!r} refused to initialize: {jsonrpc.failure(incoming.message)[1]}"
            )
        version = greeting(upstream, raw).get("protocolVersion")
        if version not in VERSIONS:
            raise UpstreamError(f"Server {upstream.name!r} answered with the unknown protocol version {version!r}")
        session = cls(upstream, identifier, version, bytes(raw), extra)
        await session.notify(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return session

    async def request(self, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        """One request. Raises `SessionLost` when the server has forgotten the session."""
        self.running += 1
        self.upstream.load += 1
        try:
            return await self._request(identifier, method, body, on_message)
        finally:
            self.running -= 1
            self.upstream.load -= 1

    async def _request(self, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        response = await self.upstream.send(b"POST", self._headers, body)
        self._check_known(response)
        return await answer(self.upstream, response, identifier, on_message)

    async def notify(self, body: bytes) -> None:
        """A notification, or an answer to a request of the server's."""
        response = await self.upstream.send(b"POST", self._headers, body, self.upstream.listing)
        if response.streaming:
            self.upstream.worked()
        response.close()
        self._check_known(response)

    def _check_known(self, response: Response) -> None:
        if self.id is not None and response.status in (400, 404) and _forgotten(response):
            response.close()
            self._lost = True
            raise SessionLost(f"Server {self.upstream.name!r} has forgotten the session")

    async def listen(self, on_message: OnMessage, opened: asyncio.Event | None = None) -> bool:
        """Hand on what comes on the session's own stream until it ends. False: there is none to be had."""
        headers = [pair for pair in self._headers if pair[0] not in (b"accept", b"content-type")]
        response = await self.upstream.send(b"GET", [*headers, (b"accept", b"text/event-stream")], b"")
        if not response.streaming:
            return False
        self.upstream.worked()
        if opened is not None:
            opened.set()
        try:
            async for events in streamed(self.upstream, response):
                for event in events:
                    message = readable(event.data)
                    if message is not None and not message.is_response:
                        await on_message(message)
        finally:
            response.close()
        return True

    async def close(self) -> None:
        """End the session at the server, without waiting long and without complaint."""
        if self.id is None or self._lost:
            return
        try:
            async with asyncio.timeout(5):
                (await self.upstream.send(b"DELETE", self._headers, b"")).close()
        except (UpstreamError, TimeoutError):
            return


def greeting(upstream: Upstream, raw: bytes | Raw) -> dict[str, Any]:
    """What a server answered to `initialize`. Raises `UpstreamError` when that is no object."""
    try:
        told = jsonrpc.value(raw)
    except jsonrpc.NotJson:
        told = None
    if not isinstance(told, dict):
        raise UpstreamError(f"Server {upstream.name!r} answered initialize with a result that is not an object")
    return jsonrpc.mapping(told)  # pyright: ignore[reportUnknownArgumentType] - any JSON object


def _forgotten(response: Response) -> bool:
    """Whether a refusal is about the session: 404 by the specification, 400 with such a message by older SDKs."""
    if response.status == 404:
        return True
    try:
        message = jsonrpc.read(response.body)
        _, said = jsonrpc.failure(message)
    except jsonrpc.NotJson:
        return len(response.body) < LONGEST_COMPLAINT and b"session" in response.body.lower()
    return message.id in (None, b"null") and ("session" in said.lower() or "not initialized" in said.lower())
