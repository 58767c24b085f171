"""The live side of one registered server: its connections, breaker and health, and what a channel to it offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hub.errors import OutcomeUnknown, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.upstream import jsonrpc
from hub.upstream.address import Address
from hub.upstream.breaker import Breaker
from hub.upstream.http1 import Bounds, Origin, Response
from hub.upstream.jsonrpc import Message
from hub.upstream.sse import Event, Reader

OnMessage = Callable[[Message], Awaitable[None]]
"""Receives what a server sends before its answer: notifications, and requests of its own (legacy)."""

Rest = Callable[[OnMessage, Bounds], Awaitable["Incoming"]]
"""Reads on where an answer was left, under bounds of its own."""

LONGEST_SECONDS = 3600.0
"""An answer's stream ends after this, whatever the server says meanwhile: signs of life alone are no answer."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A server's answer: the HTTP status it came with, and the message."""

    status: int
    message: Message


class Handover(Exception):
    """Raised by an `on_message` to leave the rest of an answer to somebody else, as when the server asks back.

    The server's stream stays open; whoever catches this owns it and ends it by awaiting `rest` to its end.
    """

    rest: Rest


class Channel(Protocol):
    """One way to ask a server something, whatever its era."""

    async def request(self, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        """Send a whole request and wait for its answer."""
        ...


class Upstream:
    """Connections to one server at one address. Made by the pool, dropped when the registration changes."""

    def __init__(self, name: str, address: Address, digest: str, bounds: Bounds) -> None:
        self.name = name
        self.address = address
        self.digest = digest
        self.bounds = bounds
        self.origin = Origin(address)
        self.breaker = Breaker(asyncio.get_running_loop().time)
        self.reason = ""
        self._headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in address.headers]

    async def send(
        self,
        method: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        bounds: Bounds | None = None,
        path: str = "",
    ) -> Response:
        """One HTTP exchange, counted by the breaker. Errors name the server."""
        if not self.breaker.admits():
            raise UpstreamDown(
                f"Server {self.name!r} is not being called for a moment: {self.reason}",
                hint="It is tried again by itself; `entrepot servers show` has the reason.",
            )
        try:
            response = await self.origin.exchange(
                method, path or self.origin.path, headers + self._headers, body, bounds or self.bounds
            )
        except asyncio.CancelledError:
            self.breaker.abandoned()
            raise
        except UpstreamError as error:
            self.reason = error.message
            if isinstance(error, UpstreamDown | UpstreamTimeout | OutcomeUnknown):
                self.breaker.failed()
            else:
                self.breaker.succeeded()
            raise type(error)(f"Server {self.name!r}: {error.message}", hint=error.hint) from error
        self.breaker.succeeded()
        self.reason = ""
        return response

    def close(self) -> None:
        """Drop all connections."""
        self.origin.close()


async def answer(
    upstream: Upstream, response: Response, identifier: bytes, on_message: OnMessage, bounds: Bounds | None = None
) -> Incoming:
    """The answer to `identifier` out of a response, what comes before it handed to `on_message`.

    Raises `OutcomeUnknown` when a stream ends without it, `UpstreamTimeout` when it falls silent for too long or
    goes on without end, `UpstreamError` when the answer is not JSON-RPC.
    """
    if not response.streaming:
        return Incoming(response.status, _answer_of(upstream, response, identifier))
    return await _read_on(upstream, response, identifier, streamed(upstream, response), on_message, bounds)


async def _read_on(
    upstream: Upstream,
    response: Response,
    identifier: bytes,
    stream: AsyncGenerator[list[Event]],
    on_message: OnMessage,
    bounds: Bounds | None,
) -> Incoming:
    silent_seconds = (bounds or upstream.bounds).answer_seconds
    loop = asyncio.get_running_loop()
    latest = loop.time() + max(silent_seconds, LONGEST_SECONDS)
    keep = False
    try:
        async with asyncio.timeout(silent_seconds) as silence:
            async for events in stream:
                silence.reschedule(min(loop.time() + silent_seconds, latest))
                for number, event in enumerate(events, 1):
                    message = readable(event.data)
                    if message is None:
                        continue
                    if not message.is_response:
                        try:
                            await on_message(message)
                        except Handover as handover:
                            keep, left = True, _resumed(events[number:], stream)
                            handover.rest = partial(_read_on, upstream, response, identifier, left)
                            raise
                    elif _answers(message, identifier):
                        response.leave()
                        return Incoming(response.status, _whole(upstream, response.status, message))
    except TimeoutError as error:
        what = "fell silent" if loop.time() < latest else "did not come to an end"
        raise UpstreamTimeout(f"Server {upstream.name!r} {what}", hint="Raise the server's deadline.") from error
    finally:
        if not keep:
            response.close()
    raise OutcomeUnknown(
        f"Server {upstream.name!r} ended its answer before the result",
        hint="It may have had its effect: check before you call again.",
    )


async def _resumed(left: list[Event], stream: AsyncGenerator[list[Event]]) -> AsyncGenerator[list[Event]]:
    yield left
    async for events in stream:
        yield events


async def streamed(upstream: Upstream, response: Response) -> AsyncGenerator[list[Event]]:
    """The events of a stream as they come; an empty list is a sign of life. Errors name the server."""
    reader = Reader(upstream.bounds.answer_bytes)
    try:
        async for chunk in response.chunks():
            yield reader.feed(chunk)
    except UpstreamError as error:
        raise type(error)(f"Server {upstream.name!r}: {error.message}", hint=error.hint) from error


def readable(data: bytes) -> Message | None:
    """One message of a stream; noise is skipped, as the reference client does. Empty data primes a stream."""
    try:
        message = jsonrpc.read(data) if data else None
    except jsonrpc.NotJson:
        return None
    params = message.members.get("params") if message is not None else None
    # Parameters that are no object say nothing that could be relayed.
    return message if params is None or bytes(params).lstrip()[:1] == b"{" else None


def _answers(message: Message, identifier: bytes) -> bool:
    """Whether a response is the one to `identifier`; an error without id is, since this stream has one request."""
    if message.id is None or message.id == b"null":
        return "error" in message.members
    return jsonrpc.same_id(message.id, identifier)


def _whole(upstream: Upstream, status: int, message: Message) -> Message:
    if "result" not in message.members and "error" not in message.members:
        raise UpstreamError(f"Server {upstream.name!r} answered HTTP {status} without result or error")
    return message


def _answer_of(upstream: Upstream, response: Response, identifier: bytes) -> Message:
    try:
        message = jsonrpc.read(response.body)
    except jsonrpc.NotJson as error:
        raise UpstreamError(
            f"Server {upstream.name!r} answered HTTP {response.status} with something that is not JSON-RPC",
            hint="Is the address that of an MCP endpoint? `entrepot doctor` looks closer.",
        ) from error
    _whole(upstream, response.status, message)
    if "result" in message.members and not jsonrpc.same_id(message.id, identifier):
        raise UpstreamError(f"Server {upstream.name!r} answered another request than the one it was asked")
    return message
