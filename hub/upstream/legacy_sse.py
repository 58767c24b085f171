"""The HTTP+SSE pair of 2024-11-05: one stream that carries everything back, one address to POST to.

The stream has one owner task; requests wait for their answer by id. What a server sends unasked goes to the
oldest request that is open, since this transport does not say to which it belongs; progress, which does by its
token, goes to all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from hub.errors import OutcomeUnknown, UpstreamError, UpstreamTimeout
from hub.upstream import jsonrpc
from hub.upstream.connection import Handover, Incoming, OnMessage, Upstream, late, readable, streamed
from hub.upstream.http1 import Response
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import VERSIONS, Extra, SessionLost, greeting
from hub.upstream.terms import Bounds

GREETING = frozenset({"initialize", "ping"})
"""What has to be answered as fast as a list."""


class _Waiting:
    """A request that is open: its answer to be, and what a sign of life does."""

    __slots__ = ("alive", "answer", "heard", "on_message")

    def __init__(self, answer: asyncio.Future[Message], on_message: OnMessage) -> None:
        self.answer = answer
        self.on_message = on_message
        self.alive: Callable[[], None] | None = None
        self.heard = False

    def hear(self) -> None:
        self.heard = True
        if self.alive is not None:
            self.alive()


MOST_KEPT = 1000
"""Messages kept between an answer's being left and being read on, which takes a moment."""


class SseSession:
    """One session over HTTP+SSE; the same face as `LegacySession`."""

    def __init__(self, upstream: Upstream, stream: Response, extra: Extra = ()) -> None:
        self.upstream = upstream
        self.id: bytes | None = None
        self.version = VERSIONS[-1]
        self.result = b"{}"
        self._stream = stream
        self._headers = [(b"content-type", b"application/json"), *extra]
        self._endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._open: dict[bytes, _Waiting] = {}
        self._listener: OnMessage | None = None
        self._ended = asyncio.Event()
        self._owner = asyncio.create_task(self._own())

    @property
    def running(self) -> int:
        """Requests under way: an end of the session would end them."""
        return len(self._open)

    @classmethod
    async def open(cls, upstream: Upstream, params: bytes, on_message: OnMessage, extra: Extra = ()) -> SseSession:
        """Open the stream, learn the address to POST to, and shake hands."""
        response = await upstream.send(b"GET", [(b"accept", b"text/event-stream"), *extra], b"")
        if not response.streaming:
            raise UpstreamError(f"Server {upstream.name!r} offers no event stream (HTTP {response.status})")
        upstream.worked()
        session = cls(upstream, response, extra)
        try:
            async with asyncio.timeout(upstream.listing.answer_seconds):
                await asyncio.shield(session._endpoint)
            body = b'{"jsonrpc":"2.0","id":"initialize","method":"initialize","params":%b}' % params
            incoming = await session.request(b'"initialize"', "initialize", body, on_message)
            raw = incoming.message.members.get("result")
            if raw is None:
                raise UpstreamError(
                    f"Server {upstream.name!r} refused to initialize: {jsonrpc.failure(incoming.message)[1]}"
                )
            session.result = bytes(raw)
            session.version = str(greeting(upstream, raw).get("protocolVersion", VERSIONS[-1]))
            await session.notify(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        except TimeoutError as error:
            await session.close()
            fault = late(upstream.name, "list", upstream.listing.answer_seconds)
            upstream.met(fault)
            raise fault from error
        except BaseException:
            await session.close()
            raise
        return session

    async def request(self, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        """POST a request and wait for its answer on the stream. Raises `SessionLost` when the session has ended."""
        self.upstream.load += 1
        try:
            return await self._request(identifier, method, body, on_message)
        finally:
            self.upstream.load -= 1

    async def _request(self, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        waiting = self._expect(identifier, on_message)
        try:
            await self._post(body)
        except BaseException:
            self._open.pop(identifier, None)
            raise
        return await self._wait(
            identifier, waiting, self.upstream.listing if method in GREETING else self.upstream.bounds
        )

    def _expect(self, identifier: bytes, on_message: OnMessage) -> _Waiting:
        waiting = self._open[identifier] = _Waiting(asyncio.get_running_loop().create_future(), on_message)
        return waiting

    async def _wait(self, identifier: bytes, waiting: _Waiting, bounds: Bounds) -> Incoming:
        loop = asyncio.get_running_loop()
        latest = loop.time() + bounds.total_seconds
        silent_seconds = bounds.idle_seconds or bounds.answer_seconds
        keep = False
        try:
            async with asyncio.timeout(bounds.answer_seconds) as silence:

                def alive() -> None:
                    if not silence.expired():
                        silence.reschedule(min(loop.time() + silent_seconds, latest))

                waiting.alive = alive
                return Incoming(200, await waiting.answer)
        except TimeoutError as error:
            fault = self._late(bounds, waiting.heard, loop.time() >= latest)
            self.upstream.met(fault)
            raise fault from error
        except Handover:
            keep = True
            raise
        finally:
            if not keep:
                self._open.pop(identifier, None)

    def _hand_over(self, identifier: bytes, handover: Handover) -> None:
        """Whoever waits for an answer leaves it: what comes from now on is kept for whoever reads on."""
        left = self._open[identifier].answer
        kept: list[Message] = []

        async def keep(message: Message) -> None:
            if len(kept) < MOST_KEPT:
                kept.append(message)

        later = self._expect(identifier, keep)

        async def rest(on_message: OnMessage, bounds: Bounds) -> Incoming:
            later.on_message = on_message
            self._open[identifier] = later
            try:
                for message in kept:
                    await on_message(message)
            except BaseException:
                self._open.pop(identifier, None)
                raise
            return await self._wait(identifier, later, bounds)

        handover.rest = rest
        if not left.done():
            left.set_exception(handover)

    def _late(self, bounds: Bounds, heard: bool, at_end: bool) -> UpstreamTimeout:
        if at_end:
            return late(self.upstream.name, "total", bounds.total_seconds)
        if heard:
            return late(self.upstream.name, "idle", bounds.idle_seconds or bounds.answer_seconds)
        return late(self.upstream.name, bounds.deadline, bounds.answer_seconds)

    async def notify(self, body: bytes) -> None:
        """A notification, or an answer to a request of the server's."""
        await self._post(body)

    async def listen(self, on_message: OnMessage, opened: asyncio.Event | None = None) -> bool:
        """Hand on what belongs to no request, until the stream ends and the session with it."""
        self._listener = on_message
        if opened is not None:
            opened.set()
        await self._ended.wait()
        return False

    async def close(self) -> None:
        """Close the stream, which ends the session."""
        self._owner.cancel()
        await asyncio.gather(self._owner, return_exceptions=True)

    async def _post(self, body: bytes) -> None:
        if self._ended.is_set():
            raise SessionLost(f"Server {self.upstream.name!r} closed its event stream")
        path = await asyncio.shield(self._endpoint)
        response = await self.upstream.send(b"POST", self._headers, body, path=path)
        response.close()
        if response.status == 404:
            raise SessionLost(f"Server {self.upstream.name!r} has forgotten the session")
        if response.status >= 400:
            raise UpstreamError(f"Server {self.upstream.name!r} refused a message with HTTP {response.status}")

    async def _own(self) -> None:
        try:
            async for events in streamed(self.upstream, self._stream):
                for event in events:
                    if event.kind == "endpoint":
                        self._learn_endpoint(event.data.decode("utf-8", "replace"))
                    else:
                        await self._deliver(event.data)
        except UpstreamError as error:
            self._fail(error)
        finally:
            self._ended.set()
            self._stream.close()
            self._fail(OutcomeUnknown(f"Server {self.upstream.name!r} closed its event stream"))

    def _learn_endpoint(self, told: str) -> None:
        """Only the path is taken: a server cannot send our credentials to another origin."""
        here = urlsplit(self.upstream.address.url)
        try:
            there = urlsplit(urljoin(self.upstream.address.url, told))
        except ValueError:
            self._fail(UpstreamError(f"Server {self.upstream.name!r} named an address that is none"))
            return
        if (there.scheme, there.netloc) != (here.scheme, here.netloc):
            self._fail(UpstreamError(f"Server {self.upstream.name!r} named an address of another origin"))
        elif not self._endpoint.done():
            self._endpoint.set_result(there.path + (f"?{there.query}" if there.query else ""))

    async def _deliver(self, data: bytes) -> None:
        message = readable(data)
        if message is None:
            return
        if message.is_response:
            self._answered(message)
            return
        waiting = list(self._open.items())
        if not waiting and self._listener is not None:
            await self._listener(message)
        for identifier, one in waiting if message.method == "notifications/progress" else waiting[:1]:
            one.hear()
            try:
                await one.on_message(message)
            except Handover as handover:
                self._hand_over(identifier, handover)

    def _answered(self, message: Message) -> None:
        waiting = self._open.get(message.id or b"")
        if waiting is None or waiting.answer.done():
            return
        if "result" in message.members or "error" in message.members:
            waiting.answer.set_result(message)
        else:
            fault = UpstreamError(f"Server {self.upstream.name!r} answered without result or error")
            waiting.answer.set_exception(fault)

    def _fail(self, error: UpstreamError) -> None:
        for one in self._open.values():
            if not one.answer.done():
                one.answer.set_exception(error)
                # Its caller may be at sending still, and fail of that first.
                one.answer.exception()
        if not self._endpoint.done():
            self._endpoint.set_exception(error)
            self._endpoint.exception()  # retrieved, so that nobody is warned of an error that was handed on
