"""The live side of one registered server: its connections, breaker and places, and what a channel to it offers.

Every exchange gets one verdict for the breaker: here for a whole answer, by its reader for a stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hub.errors import OutcomeUnknown, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.upstream import jsonrpc
from hub.upstream.address import Address
from hub.upstream.breaker import Breaker, State
from hub.upstream.http1 import Origin, Response
from hub.upstream.jsonrpc import Message
from hub.upstream.lanes import Lanes
from hub.upstream.sse import Event, Reader
from hub.upstream.terms import Bounds, Terms

OnMessage = Callable[[Message], Awaitable[None]]
"""Receives what a server sends before its answer: notifications, and requests of its own (legacy)."""

Rest = Callable[[OnMessage, Bounds], Awaitable["Incoming"]]
"""Reads on where an answer was left, under bounds of its own."""

GATEWAY_FAULTS = frozenset({502, 503, 504})
"""What a proxy in front of a server that is gone answers, and the runner for a child that cannot be started."""

FIRST_RETRY, LONGEST_RETRY = 0.05, 0.4
"""Seconds between attempts to connect while a server that worked until now is probably just restarting."""


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


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a server does towards one worker, as people are shown it."""

    breaker: State = "closed"
    reason: str = ""
    """The last failure that callers met; empty after a success."""
    failures: int = 0
    """In a row."""
    retry_after: float = 0.0
    opened: int = 0
    """Times that the breaker opened."""
    running: int = 0
    queued: int = 0
    refused: int = 0
    """Calls that found no place."""


class Upstream:
    """Connections to one server at one address. Made by the pool, dropped when the registration changes."""

    def __init__(self, name: str, address: Address, digest: str, terms: Terms) -> None:
        self.name = name
        self.address = address
        self.digest = digest
        self.terms = terms
        self.bounds = terms.call_bounds
        self.listing = terms.list_bounds
        # A child may have to be fetched and started before it can greet: that takes a call's time, not a list's.
        self.greeting = self.bounds if address.socket else self.listing
        self.origin = Origin(address)
        self.lanes = Lanes(name, terms.concurrency)
        self._clock = asyncio.get_running_loop().time
        self.breaker = Breaker(self._clock, terms.passive)
        self._has_worked = False
        self.unreachable = False
        """Whether the last failure was that no connection could be made."""
        self.load = 0
        """Requests under way, streams that only listen aside."""
        self.has_siblings = False
        """Whether there are other replicas: then nobody waits for this one."""
        self._headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in address.headers]

    async def send(
        self,
        method: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        bounds: Bounds | None = None,
        path: str = "",
    ) -> Response:
        """One HTTP exchange, counted by the breaker: a stream's verdict is given by whoever reads it.

        Nothing was sent where a connection is refused, so a server that worked until now is waited for within its
        connect deadline: it is probably just restarting. Errors name the server, and a deadline that passed.
        """
        bounds = bounds or self.bounds
        pause = FIRST_RETRY
        while True:
            if self.breaker.admits():
                try:
                    response = await self.origin.exchange(
                        method, path or self.origin.path, headers + self._headers, body, bounds
                    )
                except asyncio.CancelledError:
                    self.breaker.abandoned()
                    raise
                except UpstreamError as error:
                    if isinstance(error, OutcomeUnknown):
                        self.origin.distrust_idle()
                    told = self._told(error, bounds)
                    self.met(told)
                    if not isinstance(error, UpstreamDown) or not self._may_be_restarting():
                        raise told from error
                else:
                    if response.status in GATEWAY_FAULTS:
                        self.breaker.failed(f"Server {self.name!r} answered HTTP {response.status}")
                    elif not response.streaming:
                        self.worked()
                    return response
            elif not self._may_be_restarting():
                raise UpstreamDown(
                    f"Server {self.name!r} is not being called for a moment: {self.breaker.reason}",
                    hint="It is tried again by itself; `entrepot servers show` has the reason.",
                    data={"retryAfter": round(max(self.breaker.retry_after, 0.1), 1)},
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RETRY)

    def worked(self) -> None:
        """An exchange came to a good end."""
        self._has_worked = True
        self.breaker.succeeded()

    def met(self, error: UpstreamError) -> None:
        """An exchange came to this end; an answer that cannot be used is an answer all the same."""
        if isinstance(error, UpstreamDown | UpstreamTimeout | OutcomeUnknown):
            self.unreachable = isinstance(error, UpstreamDown)
            self.breaker.failed(error.message)
        else:
            self.worked()

    def vitals(self) -> Vitals:
        """How it does."""
        breaker, lanes = self.breaker, self.lanes
        return Vitals(
            breaker.state,
            breaker.reason,
            breaker.failures,
            breaker.retry_after,
            breaker.opened,
            lanes.running,
            lanes.queued,
            lanes.refused,
        )

    def close(self) -> None:
        """Drop all connections."""
        # Nobody waits for a server that was removed.
        self._has_worked = False
        self.origin.close()

    def _may_be_restarting(self) -> bool:
        """Whether it worked until now; an outage that is older than the connect deadline is no restart."""
        return (
            self._has_worked
            and not self.has_siblings
            and self._clock() < self.breaker.since + self.terms.deadlines.connect
        )

    def _told(self, error: UpstreamError, bounds: Bounds) -> UpstreamError:
        if isinstance(error, UpstreamTimeout):
            return late(self.name, bounds.deadline, bounds.answer_seconds)
        return type(error)(f"Server {self.name!r}: {error.message}", hint=error.hint, data=error.extra)


_PASSED = {"idle": "was silent for longer than", "total": "did not finish within"}


def late(server: str, deadline: str, seconds: float) -> UpstreamTimeout:
    """The error of a call that this deadline ended."""
    return UpstreamTimeout(
        f"Server {server!r} {_PASSED.get(deadline, 'did not answer within')} its {deadline} deadline of {seconds:g} s",
        hint=f"Raise `deadlines.{deadline}` of the server, or look at its log.",
        data={"deadline": {"name": deadline, "seconds": seconds}},
    )


async def answer(
    upstream: Upstream, response: Response, identifier: bytes, on_message: OnMessage, bounds: Bounds | None = None
) -> Incoming:
    """The answer to `identifier` out of a response, what comes before it handed to `on_message`.

    Raises `OutcomeUnknown` when a stream ends without it, `UpstreamTimeout` when it falls silent for too long or
    goes on without end, `UpstreamError` when the answer is not JSON-RPC.
    """
    if not response.streaming:
        return Incoming(response.status, _answer_of(upstream, response, identifier))
    bounds = bounds or upstream.bounds
    if bounds.deadline == "listen":
        # It is as good as answered: a listen that was accepted says nothing for hours.
        upstream.worked()
    return await _read_on(upstream, response, identifier, streamed(upstream, response), on_message, bounds)


async def _read_on(
    upstream: Upstream,
    response: Response,
    identifier: bytes,
    stream: AsyncGenerator[list[Event]],
    on_message: OnMessage,
    bounds: Bounds,
) -> Incoming:
    """As `answer`, on a stream that is already read from; its end is the exchange's verdict."""
    try:
        found = await _found(upstream, response, identifier, stream, on_message, bounds)
    except asyncio.CancelledError:
        upstream.breaker.abandoned()
        raise
    except Handover:
        upstream.worked()
        raise
    except UpstreamError as error:
        upstream.met(error)
        raise
    upstream.worked()
    return found


async def _found(
    upstream: Upstream,
    response: Response,
    identifier: bytes,
    stream: AsyncGenerator[list[Event]],
    on_message: OnMessage,
    bounds: Bounds,
) -> Incoming:
    loop = asyncio.get_running_loop()
    silent_seconds = bounds.idle_seconds or bounds.answer_seconds
    latest = loop.time() + bounds.total_seconds
    keep = False
    try:
        async with asyncio.timeout_at(min(loop.time() + silent_seconds, latest)) as silence:
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
                            handover.rest = partial(_rest, upstream, response, identifier, left)
                            # Under way for as long as somebody may read on.
                            upstream.load += 1
                            raise
                    elif _answers(message, identifier):
                        response.leave()
                        return Incoming(response.status, _whole(upstream, response.status, message))
    except TimeoutError as error:
        if bounds.deadline == "list":
            raise late(upstream.name, "list", bounds.total_seconds) from error
        if loop.time() < latest:
            raise late(upstream.name, "idle", silent_seconds) from error
        raise late(upstream.name, "total", bounds.total_seconds) from error
    finally:
        if not keep:
            response.close()
    raise OutcomeUnknown(f"Server {upstream.name!r} ended its answer before the result")


async def _rest(
    upstream: Upstream,
    response: Response,
    identifier: bytes,
    stream: AsyncGenerator[list[Event]],
    on_message: OnMessage,
    bounds: Bounds,
) -> Incoming:
    try:
        return await _read_on(upstream, response, identifier, stream, on_message, bounds)
    finally:
        upstream.load -= 1


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
        raise type(error)(f"Server {upstream.name!r}: {error.message}", hint=error.hint, data=error.extra) from error


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
        if response.status in GATEWAY_FAULTS:
            raise OutcomeUnknown(
                f"Server {upstream.name!r}: whatever stands in front of it answered HTTP {response.status}"
            ) from error
        raise UpstreamError(
            f"Server {upstream.name!r} answered HTTP {response.status} with something that is not JSON-RPC",
            hint="Is the address that of an MCP endpoint? `entrepot doctor` looks closer.",
        ) from error
    if upstream.address.socket and "result" not in message.members:
        _raise_runners(upstream, response.status, message)
    _whole(upstream, response.status, message)
    if "result" in message.members and not jsonrpc.same_id(message.id, identifier):
        raise UpstreamError(f"Server {upstream.name!r} answered another request than the one it was asked")
    return message


class ChildFailed(UpstreamDown):
    """A child of ours ended before it served.

    Callers get the message, the audit the reason, and only who registers or refreshes it is told its last words,
    which the runner has redacted: they may hold paths and more that is nobody else's business.
    """

    last_words = ""

    def explained(self) -> UpstreamDown:
        """The same for an administrator: the true reason first, all last words beside it."""
        hint = "Check its command and environment; `entrepot doctor` names the cause."
        return UpstreamDown(self.reason, hint=hint, data={"stderr": self.last_words} if self.last_words else None)


_RUNNERS = {error.code: error for error in (UpstreamDown, UpstreamTimeout, OutcomeUnknown)}


def _raise_runners(upstream: Upstream, status: int, message: Message) -> None:
    """Raise what the runner says of a child: as JSON-RPC with our envelope, or as a problem where it had no request."""
    found = message.members.get("error")
    told = jsonrpc.mapping(jsonrpc.value(found if found is not None else message.raw))
    said = jsonrpc.mapping(told.get("data")) if found is not None else told
    kind = _RUNNERS.get(str(said.get("code")))
    if kind is not None:
        text = str(told.get("message") or told.get("title") or "it failed")[:500]
        named = text if text.startswith("server ") else f"Server {upstream.name!r}: {text}"
        stderr = str(said.get("stderr") or "").strip()
        if kind is UpstreamDown and stderr:
            last = stderr.rpartition("\n")[2].strip()[:300]
            fault = ChildFailed(named, hint="`entrepot doctor SERVER` names the cause.", reason=f"{named}: {last}")
            fault.last_words = stderr
        else:
            fault = kind(named, hint=str(said.get("hint") or "")[:500])
        if status not in GATEWAY_FAULTS:
            upstream.met(fault)
        raise fault
