"""HTTP/1.1 towards callers: one connection, its requests one after another, each an ASGI app's task.

Takes the place of uvicorn's own protocol class (whose `Server` accepts, ticks and shuts down as before): it costs
a third of it, answers whole in one write, and has the bounds that are lacking there: bytes and seconds for a
request's head (RFC 9110 15.5.9, RFC 6585 section 5), so that one caller without a credential can neither fill the
memory with headers nor hold connections with a byte a minute.

A caller sends the same head again and again, but for the length of the body: such a request is not parsed anew
(`_Known`), and what the app worked out of that head stays with it in `scope["memo"]`. That is 14 µs less a call.
No timer runs per request: `sweep`, called about every second, closes what is late.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp

from hub.serving.exchange import STATUS_LINES, Exchange

MOST_HEAD_BYTES = 64 * 1024
"""Line and headers of one request; what real clients send stays below 8 KiB."""

HEAD_SECONDS = 20.0
"""From a request's first byte to the end of its head."""

BODY_SECONDS = 60.0
"""Between two pieces of a request's body."""

MOST_UNREAD = 256 * 1024
"""Bytes of a body that wait for the app before the caller is made to wait; a bigger body comes in such pieces."""

MOST_DISCARDED = 2**20
"""Bytes of a body that nobody wanted which are read away, so that its sender comes to read the answer."""

MOST_PIPELINED = 16
"""Requests sent ahead of their answers on one connection, after which it is not read for a while."""


LONGEST_LENGTH = 15
"""Digits of a `content-length` that any body could have."""

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
"""No other protocol is spoken here, and such a wish may be passed over (RFC 9110, 7.8); the parser would give the
body away with it. Java's client sends one with every first POST."""


@dataclass(slots=True)
class _Known:
    """A head that was accepted: all of it but the digits of its only `content-length`, and what came of it."""

    before: bytes
    after: bytes
    scope: dict[str, Any]
    length_at: int
    """Where that `content-length` stands among the headers of the scope."""


class HttpConnection(asyncio.Protocol):
    """One connection of a caller. Owned by the loop; it owns the tasks that serve its requests."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        """As uvicorn's `Server` makes one for each connection."""
        self.app: ASGIApp = config.loaded_app
        self.loop: asyncio.AbstractEventLoop = _loop or asyncio.get_running_loop()
        self.state = server_state
        self.transport: Any = None
        self.closed = False
        self.writable: asyncio.Future[None] | None = None
        """Waited for while the caller does not take what was sent."""
        self._idle_seconds: float = config.timeout_keep_alive
        self._parser = httptools.HttpRequestParser(self)
        self._since = self.loop.time()
        """When the present wait began: for a request's head, or for another request."""
        self._head_bytes = 0
        self._in_head = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._reading: Exchange | None = None
        """The exchange whose request is still coming."""
        self._serving: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._paused = False
        self._discarded = 0
        self._known: _Known | None = None
        self._unknown = 0
        """Requests in a row with another head than the one before: looking at each would cost more than it saves."""
        self._dates: Any = None
        self._date = b""
        self._last = False
        """Nothing more is read: the connection ends with the answer under way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = transport
        self.state.connections.add(self)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: whoever serves or waits here is told."""
        self.closed = True
        self.state.connections.discard(self)
        self._waiting.clear()
        for exchange in (self._serving, self._reading):
            if exchange is not None:
                exchange.wake()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._last:
            return
        # Only then do these bytes and the exchange that they begin belong together.
        alone = self._reading is None and not self._in_head and self._serving is None
        if alone and self._known is not None and self._comes_again(data, self._known):
            return
        if self._reading is None:
            if not self._in_head:
                self._in_head, self._since = True, self.loop.time()
            self._head_bytes += len(data)
            if _UPGRADE.search(data, 0, MOST_HEAD_BYTES):
                data = _UPGRADE.sub(b"\r\nx-upgrade:", data, count=1)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400)
            return
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(431)
        elif alone and self._serving is not None:
            self._learn(data, self._serving)

    def _comes_again(self, data: bytes, known: _Known) -> bool:
        """Serve a request that is the known one but for its body. Only a whole one; the parser sees all others."""
        before, after = known.before, known.after
        if not data.startswith(before):
            return False
        end = data.find(b"\r", len(before))
        length = data[len(before) : end]
        start = end + len(after)
        # A number of thousands of digits is for the parser to refuse: reading it here raises.
        if not data.startswith(after, end) or not length.isdigit() or len(length) > LONGEST_LENGTH:
            return False
        if len(data) - start != int(length):
            return False
        self._unknown = 0
        scope = known.scope.copy()
        headers = scope["headers"] = known.scope["headers"].copy()
        headers[known.length_at] = (b"content-length", length)
        exchange = Exchange(self, scope, True)
        exchange.take(data[start:])
        exchange.more = False
        self._serve(exchange)
        return True

    def _learn(self, data: bytes, exchange: Exchange) -> None:
        """Keep the head of a request that came whole and alone, if there is no doubt where its body began."""
        self._unknown += 1
        if exchange.more or not exchange.keep_alive or (self._unknown > 8 and self._unknown % 64):
            return
        head, _, body = data.partition(b"\r\n\r\n")
        lower = head.lower()
        name, _, rest = lower.partition(b"\r\ncontent-length: ")
        length = rest.partition(b"\r")[0]
        doubtful = lower.count(b"content-length") != 1 or b"transfer-encoding" in lower or b"expect" in lower
        if doubtful or not length.isdigit() or int(length) != len(body) or exchange.scope["http_version"] != "1.1":
            return
        at = len(name) + len(b"\r\ncontent-length: ")
        scope = exchange.scope.copy()
        for own in ("principal", "ui_session"):
            scope.pop(own, None)
        exchange.scope["memo"] = scope["memo"] = {}
        length_at = next(place for place, pair in enumerate(scope["headers"]) if pair[0] == b"content-length")
        self._known = _Known(head[:at], head[at + len(length) :] + b"\r\n\r\n", scope, length_at)

    def eof_received(self) -> bool:
        """Called by the loop: a caller that will send no more is gone."""
        return False

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._url, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        """Called by the parser, maybe more than once."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser. What comes after a body is a trailer, and must not pass for a header."""
        if self._reading is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser: the app may begin, the body comes as it comes."""
        self._in_head, self._head_bytes = False, 0
        parser = self._parser
        version = parser.get_http_version()
        path, raw_path, query = _split(self._url)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": parser.get_method().decode("ascii"),
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
            "memo": {},
        }
        exchange = Exchange(self, scope, version != "1.0" and parser.should_keep_alive())
        self._reading = exchange
        if self._serving is None:
            self._serve(exchange)
            return
        self._waiting.append(exchange)
        if len(self._waiting) >= MOST_PIPELINED:
            self._pause()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._since = self.loop.time()
        exchange = self._reading
        if exchange is None:
            return
        if exchange.finished:
            self._discarded += len(body)
            if self._discarded > MOST_DISCARDED:
                self.transport.close()
        elif exchange.take(body) > MOST_UNREAD:
            self._pause()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        exchange, self._reading = self._reading, None
        if exchange is not None:
            exchange.more = False
            exchange.wake()

    def pause_writing(self) -> None:
        """Called by the loop: the caller takes no more for now."""
        if self.writable is None:
            self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        """Called by the loop."""
        waiting, self.writable = self.writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _serve(self, exchange: Exchange) -> None:
        self._serving = exchange
        exchange.task = self.loop.create_task(exchange.run(self.app))
        self.state.tasks.add(exchange.task)

    def done(self, exchange: Exchange) -> None:
        """An exchange is over: the next one's turn, or a wait for it."""
        self.state.tasks.discard(exchange.task)
        self._serving = None
        if self.closed or self.transport.is_closing():
            return
        if self._last or not exchange.keep_alive:
            self.transport.close()
            return
        self.state.total_requests += 1
        self._discarded, self._since = 0, self.loop.time()
        self.resume()
        if self._waiting:
            self._serve(self._waiting.popleft())

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on: what came was taken."""
        if self._paused and not self.closed:
            self._paused = False
            self.transport.resume_reading()

    def sweep(self, now: float) -> None:
        """Close what is late with its head or body, and what has been idle for too long."""
        late = now - self._since
        if self._reading is not None:
            if late > BODY_SECONDS and not self._paused:
                self.transport.close()
        elif self._serving is not None:
            return
        elif self._in_head or not self._url:
            if late > HEAD_SECONDS:
                self._refuse(408)
        elif late > self._idle_seconds:
            self.transport.close()

    def shutdown(self) -> None:
        """Called by the server when it stops: what is under way may end, nothing begins."""
        if self._serving is None:
            self.transport.close()
        else:
            self._last = True
            self._serving.keep_alive = False

    def _refuse(self, status: int) -> None:
        """The end of a connection that cannot be understood; an answer under way still goes out."""
        if self._serving is not None:
            self._last = True
            self._serving.keep_alive = False
            if self._reading is self._serving:
                self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write(STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def common_lines(self) -> bytes:
        """What every answer carries (`date`): uvicorn makes a new list of it every second."""
        found = self.state.default_headers
        if found is not self._dates:
            self._dates, self._date = found, b"".join([b"%b: %b\r\n" % pair for pair in found])
        return self._date


def _address(found: Any) -> tuple[str, int | None] | None:
    """Host and port of a socket's end; of a local socket its path, and nothing for an end without a name."""
    if isinstance(found, tuple):
        return (str(found[0]), int(found[1]))  # pyright: ignore[reportUnknownArgumentType] - of the socket module
    return (found, None) if isinstance(found, str) and found else None


_known_targets: dict[bytes, tuple[str, bytes, bytes]] = {}


def _split(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, raw path and query of a request target. Raises `HttpParserInvalidURLError`."""
    known = _known_targets.get(url)
    if known is not None:
        return known
    parsed = httptools.parse_url(url)
    raw: bytes = parsed.path or b""
    path = raw.decode("ascii")
    found = (unquote(path) if "%" in path else path, raw, parsed.query or b"")
    if len(_known_targets) < 256 and len(url) < 200:
        _known_targets[url] = found
    return found
