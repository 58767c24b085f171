"""A small HTTP/1.1 client over asyncio and httptools: keep-alive pools per origin, bounds, and nothing else.

It exists because it costs a fifth of the next best client per call. It speaks to addresses that the catalog
holds; URLs that a stranger chose go through `hub.net`. Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import httptools

from hub.errors import OutcomeUnknown, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.upstream.address import Address
from hub.upstream.terms import Bounds

MAX_HEAD_BYTES = 64 * 1024
"""A response head beyond this is refused; the largest seen from real servers is under 4 KiB."""

HIGH_WATER = 256 * 1024
"""Bytes of an unread stream after which the server is no longer read from."""

LEFT_SECONDS = 1.0
"""How long a server may take to end a stream whose reader has its answer, for the connection to be kept."""

IDLE_SECONDS = 45.0
"""An idle connection is closed before common proxies and servers (60-75 s) would do it under us."""

IDLE_CONNECTIONS = 100
"""Idle connections kept per origin."""


JOINED_BYTES = 16 * 1024
"""Up to here head and body are copied into one buffer to send; beyond, the copy costs more than a second buffer."""

_TARGET = re.compile(rb"[!-~]+")

TWICE_IS_WRONG = frozenset({b"content-length", b"content-type", b"mcp-session-id"})
"""Headers of an answer of which two different ones would leave it open which holds (RFC 9112, 6.3)."""


class Response:
    """An answer: whole (`body`), or a stream still running (`chunks`). Close a stream that is not read to its end."""

    __slots__ = ("_connection", "body", "headers", "status", "streaming")

    def __init__(self, connection: Connection, status: int, headers: dict[bytes, bytes]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self.body = b""
        self.streaming = False

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The rest of a stream as it comes. Raises `OutcomeUnknown` when it breaks off."""
        connection = self._connection
        try:
            while (chunk := await connection.next_chunk()) is not None:
                yield chunk
        finally:
            connection.release(self)

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Raises `UpstreamError` beyond it."""
        if not self.streaming:
            return self.body
        collected = bytearray()
        async for chunk in self.chunks():
            collected += chunk
            if len(collected) > limit:
                raise UpstreamError("The server's answer is beyond the limit", hint="Raise max_result_bytes.")
        return bytes(collected)

    def leave(self) -> None:
        """Enough was read of a stream: its connection is kept if the server ends it soon."""
        if self.streaming:
            self._connection.leave(self)

    def close(self) -> None:
        """Give up on a stream: its connection is closed, which tells a modern server to cancel."""
        if self.streaming:
            self._connection.release(self)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one exchange at a time. Owned by its `Origin`; lent to one exchange."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.loop = origin.loop
        self.transport: Any = None
        self.closed = False
        self.idle_since = 0.0
        self._parser: Any = httptools.HttpResponseParser(self)
        """One for all exchanges of a connection: making one costs 2 µs."""
        self._busy = False
        """Whether an answer is awaited or still coming; what comes otherwise is noise."""
        self._waiter: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._queue: deque[bytes | None] = deque()
        self._queued = 0
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._head_bytes = 0
        self._size = 0
        self._limit = 0
        self._complete = False
        self._leaving: asyncio.TimerHandle | None = None
        self._broken: Exception | None = None

    async def exchange(self, head: bytes, body: bytes, bounds: Bounds) -> Response:
        """Send one request and wait for its answer: the whole of it, or the head of an event stream."""
        waiter: asyncio.Future[Response] = self.loop.create_future()
        self._waiter = waiter
        self._busy = True
        self._response, self._broken = None, None
        self._headers, self._chunks = {}, []
        self._head_bytes = self._size = 0
        self._limit = bounds.answer_bytes
        self._complete = False
        timer = self.loop.call_later(bounds.answer_seconds, self._expire)
        if len(body) <= JOINED_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.done() or waiter.cancelled():
                self.abort()
            raise
        finally:
            # The connection may serve the next exchange already: only what is this one's own is touched.
            timer.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop: bytes of an answer, or noise on an idle connection, which closes it."""
        if not self._busy:
            self.abort()
            return
        if self._response is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(UpstreamError(f"The server's answer is not HTTP: {_why(error)}"))
            self.abort()
            return
        if self._response is None and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(UpstreamError("The server's response head is beyond 64 KiB"))
            self.abort()

    def eof_received(self) -> bool:
        """Called by the loop: a body without a length ends here."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        self._stay()
        self.origin.forget(self)
        # The parser holds on to this object, which would otherwise wait for the collector.
        self._parser = None
        if self._complete:
            return
        response = self._response
        if response is not None and exc is None and self._ends_at_close(response):
            self._finish(response)
            return
        self._fail(OutcomeUnknown("The connection to the server broke before its answer was complete"))

    @staticmethod
    def _ends_at_close(response: Response) -> bool:
        return b"content-length" not in response.headers and b"transfer-encoding" not in response.headers

    def on_message_begin(self) -> None:
        """Called by the parser. An answer that nobody asked for could be taken for the next one's."""
        if not self._busy:
            raise _Unasked

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser; also for trailers, which say nothing here."""
        if self._response is not None or self._leaving is not None:
            return
        name = name.lower()
        if name in TWICE_IS_WRONG and self._headers.get(name, value) != value:
            raise _Ambiguous
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        response = Response(self, status, self._headers)
        self._response = response
        if self._headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            response.streaming = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(response)

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        response = self._response
        if response is None:
            return
        if response.streaming:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued > HIGH_WATER and not self._paused:
                self._paused = True
                self.transport.pause_reading()
            self._wake()
            return
        self._size += len(data)
        if self._size > self._limit:
            self._fail(UpstreamError("The server's answer is beyond the limit", hint="Raise max_result_bytes."))
            self.abort()
            return
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._broken is not None:
            return
        if self._response is not None:
            self._finish(self._response)
        elif self._leaving is not None:
            self._finish_left()

    def _finish(self, response: Response) -> None:
        self._complete = True
        self._busy = False
        keep = not self.closed and self._parser.should_keep_alive()
        if response.streaming:
            self._queue.append(None)
            self._wake()
            if not keep:
                self.transport.close()
            return
        response.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)
        if keep:
            self.origin.give_back(self)
        elif not self.closed:
            self.transport.close()

    async def next_chunk(self) -> bytes | None:
        """The next piece of a stream, None at its end."""
        while not self._queue:
            if self._broken is not None:
                raise self._broken
            self._reader = self.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        chunk = self._queue.popleft()
        if chunk is not None:
            self._queued -= len(chunk)
            if self._paused and self._queued < HIGH_WATER // 2:
                self._paused = False
                self.transport.resume_reading()
        return chunk

    def release(self, response: Response) -> None:
        """The reader of a stream is done: keep the connection when the stream ended well, else close it.

        Only once, and only by whoever still has it: by then the connection may serve somebody else.
        """
        if self._response is not response:
            return
        self._response = None
        ended = self._complete and self._broken is None and all(chunk is None for chunk in self._queue)
        self._queue.clear()
        self._queued = 0
        if ended and not self.closed and not self.transport.is_closing():
            self.origin.give_back(self)
        else:
            self.abort()

    def leave(self, response: Response) -> None:
        """The reader of a stream has what it wanted; what little may still come is read away."""
        if self._response is not response:
            return
        if self._complete:
            self.release(response)
            return
        # From here on bytes count as noise, up to the bound of a head.
        self._response = None
        self._queue.clear()
        self._queued = 0
        self._leaving = self.loop.call_later(LEFT_SECONDS, self.abort)
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _finish_left(self) -> None:
        self._stay()
        self._complete = True
        self._busy = False
        keep = not self.closed and self._parser.should_keep_alive()
        if keep:
            self.origin.give_back(self)
        elif not self.closed:
            self.transport.close()

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def abort(self) -> None:
        """Close at once. Whoever still waits for an answer here is told."""
        self._stay()
        if not self._complete:
            self._fail(OutcomeUnknown("The connection to the server was closed before its answer was complete"))
        if self.transport is not None and not self.closed:
            self.transport.abort()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _expire(self) -> None:
        self._fail(
            UpstreamTimeout(
                "The server did not answer in time", hint="Raise the server's deadline, or look at its log."
            )
        )
        self.abort()

    def _fail(self, error: Exception) -> None:
        self._complete = True
        self._broken = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self._wake()


class _Ambiguous(Exception):
    """A header came twice with different values."""


class _Unasked(Exception):
    """More came than one answer."""


def _why(error: Exception) -> str:
    """A parser's complaint; what was raised within its callbacks stands behind it."""
    cause = error.__context__
    if isinstance(cause, _Ambiguous | _Unasked):
        return str(cause.__doc__)
    return "it wants another protocol" if isinstance(error, httptools.HttpParserUpgrade) else str(error)


class Origin:
    """All connections to one address. Lent out one exchange each, kept when idle, closed with the origin."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(address.url)
        self.loop = asyncio.get_running_loop()
        self.host = parts.hostname or "localhost"
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.socket = address.socket
        self.tls = (tls or ssl.create_default_context()) if parts.scheme == "https" and not address.socket else None
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._authority = parts.netloc.rpartition("@")[2].encode("latin-1", "replace")
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._closed = False

    def head(self, method: bytes, path: str, headers: list[tuple[bytes, bytes]], length: int) -> bytes:
        """A request head. Header values come checked: no line break passes."""
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        if lines.count(b"\r") != len(headers) or lines.count(b"\n") != len(headers):
            raise UpstreamError("A header to the server holds a line break")
        target = path.encode("ascii", "replace")
        if _TARGET.fullmatch(target) is None:
            # A decoded path may hold a line break, and with it a header of the caller's choice.
            raise UpstreamError("A request target holds characters that must be escaped")
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n" % (
            method,
            target,
            self._authority,
            lines,
            length,
        )

    async def exchange(
        self, method: bytes, path: str, headers: list[tuple[bytes, bytes]], body: bytes, bounds: Bounds
    ) -> Response:
        """One request and its answer.

        Raises `UpstreamDown` (not sent), `UpstreamTimeout`, `OutcomeUnknown` (broke after sending), `UpstreamError`.
        """
        connection = await self._borrow(bounds)
        return await connection.exchange(self.head(method, path, headers, len(body)), body, bounds)

    async def _borrow(self, bounds: Bounds) -> Connection:
        oldest = self.loop.time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and not connection.transport.is_closing() and connection.idle_since > oldest:
                return connection
            connection.abort()
        if self._closed:
            raise UpstreamDown("The server was removed")
        try:
            async with asyncio.timeout(bounds.connect_seconds):
                if self.socket:
                    _, connection = await self.loop.create_unix_connection(lambda: Connection(self), self.socket)
                else:
                    _, connection = await self.loop.create_connection(
                        lambda: Connection(self), self.host, self.port, ssl=self.tls
                    )
        except TimeoutError as error:
            raise UpstreamDown(
                f"The server did not accept a connection within its connect deadline of {bounds.connect_seconds:g} s",
                hint="Is its address right, and does a firewall let it through?",
                data={"deadline": {"name": "connect", "seconds": bounds.connect_seconds}},
            ) from error
        except ssl.SSLError as error:
            raise UpstreamDown(f"The server's certificate was refused: {error.reason}") from error
        except OSError as error:
            raise UpstreamDown(f"The server cannot be reached: {error.strerror or type(error).__name__}") from error
        except UnicodeError as error:
            raise UpstreamDown("The server's host name is not one") from error
        self._all.add(connection)
        return connection

    @property
    def idle_connections(self) -> int:
        """How many connections wait for their next exchange."""
        return len(self._idle)

    def distrust_idle(self) -> None:
        """Close the idle connections: where one broke, the others may be dead without its having been noticed yet."""
        while self._idle:
            self._idle.pop().abort()

    def give_back(self, connection: Connection) -> None:
        """A connection whose exchange is over."""
        if self._closed or len(self._idle) >= IDLE_CONNECTIONS:
            connection.transport.close()
            return
        connection.idle_since = self.loop.time()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """A connection that is closed."""
        self._all.discard(connection)

    def close(self) -> None:
        """Close all connections; exchanges under way fail."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._all):
            connection.abort()
