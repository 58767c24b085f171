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
import http
import logging
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Message

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

JOINED_BYTES = 16 * 1024
"""Up to here head and body are copied into one buffer; beyond, copying costs more than a second buffer to write."""

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
"""No other protocol is spoken here, and such a wish may be passed over (RFC 9110, 7.8); the parser would give the
body away with it. Java's client sends one with every first POST."""

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}
BODILESS = frozenset({204, 304})

log = logging.getLogger("hub.http")


@dataclass(slots=True)
class _Known:
    """A head that was accepted: all of it but the digits of its only `content-length`, and what came of it."""

    before: bytes
    after: bytes
    scope: dict[str, Any]


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
        fresh = self._reading is None and not self._in_head
        if fresh and self._serving is None and self._known is not None and self._comes_again(data, self._known):
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
        elif fresh and self._serving is not None:
            self._learn(data, self._serving)

    def _comes_again(self, data: bytes, known: _Known) -> bool:
        """Serve a request that is the known one but for its body. Only a whole one; the parser sees all others."""
        before, after = known.before, known.after
        if not data.startswith(before):
            return False
        end = data.find(b"\r", len(before))
        length = data[len(before) : end]
        start = end + len(after)
        if not data.startswith(after, end) or not length.isdigit() or len(data) - start != int(length):
            return False
        self._unknown = 0
        exchange = Exchange(self, known.scope.copy(), True)
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
        doubtful = lower.count(b"content-length") != 1 or b"\r\ntransfer-encoding" in lower or b"\r\nexpect" in lower
        if doubtful or not length.isdigit() or int(length) != len(body) or exchange.scope["http_version"] != "1.1":
            return
        at = len(name) + len(b"\r\ncontent-length: ")
        scope = exchange.scope.copy()
        for own in ("principal", "ui_session"):
            scope.pop(own, None)
        exchange.scope["memo"] = scope["memo"] = {}
        self._known = _Known(head[:at], head[at + len(length) :] + b"\r\n\r\n", scope)

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


class Exchange:
    """One request and its answer, as ASGI has it."""

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_given",
        "_held",
        "_left",
        "_started",
        "_told",
        "_unread",
        "_waiter",
        "finished",
        "keep_alive",
        "more",
        "scope",
        "task",
    )

    def __init__(self, connection: HttpConnection, scope: dict[str, Any], keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.more = True
        """Whether the request's body is still coming."""
        self.finished = False
        self.task: Any = None
        self._connection = connection
        self._body: list[bytes] = []
        self._unread = 0
        self._given = False
        """Whether the whole of the request's body was handed to the app."""
        self._told = False
        """Whether a caller that asks before it sends its body was looked for."""
        self._waiter: asyncio.Future[None] | None = None
        self._started = False
        self._chunked = False
        self._left = -1
        """Bytes of the answer's body that its length promised and that are still to come; -1 without a length."""
        self._held: list[bytes] = []
        """The head of a whole answer, kept to go out together with its body: one system call less."""

    async def run(self, app: ASGIApp) -> None:
        """Have the app serve the request. What it leaves undone is said to the caller by closing."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.finished and not self._connection.closed:
                log.error("the app ended without a whole answer to %s", self.scope["path"])
                self._break_off()
        except asyncio.CancelledError:
            self._break_off()
        except Exception:
            log.exception("the app failed at %s", self.scope["path"])
            self._break_off()
        finally:
            self._connection.done(self)

    def _break_off(self) -> None:
        connection = self._connection
        if (self._held or not self._started) and not connection.closed:
            body = b"Internal Server Error"
            connection.transport.write(
                STATUS_LINES[500] + b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
            )
        self.keep_alive = False
        connection.transport.close()

    def take(self, body: bytes) -> int:
        """A piece of the request's body; how many bytes wait now."""
        self._body.append(body)
        self._unread += len(body)
        self.wake()
        return self._unread

    def wake(self) -> None:
        """Something changed for whoever waits in `receive`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """The next of the body, or that the caller is gone or has its answer."""
        connection = self._connection
        while not self._body and (self.more or self._given):
            if connection.closed or self.finished:
                return {"type": "http.disconnect"}
            if self.more and not self._told:
                self._told = True
                if not self._started and _expects(self.scope["headers"]):
                    connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.resume()
            self._waiter = connection.loop.create_future()
            await self._waiter
        if connection.closed:
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body, self._unread = [], 0
        self._given = not self.more
        return {"type": "http.request", "body": body, "more_body": self.more}

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        connection = self._connection
        if connection.writable is not None:
            await connection.writable
        if connection.closed:
            return
        if not self._started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"an answer begins with its head, not with {message['type']}")
            self._start(message["status"], message.get("headers", ()))
            return
        if self.finished or message["type"] != "http.response.body":
            raise RuntimeError(f"{message['type']} does not belong here")
        self._write(message.get("body", b""), message.get("more_body", False))

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._connection.common_lines()]
        count = 1 + lines[1].count(b"\n")
        for name, value in headers:
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding":
                # Framing is decided here.
                continue
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
            count += 1
        bodiless = self.scope["method"] == "HEAD" or status in BODILESS
        if bodiless:
            self._left = 0
        elif self._left < 0:
            if self.scope["http_version"] == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
                count += 1
            else:
                self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
            count += 1
        head = b"".join(lines) + b"\r\n"
        if head.count(b"\n") != count + 1 or head.count(b"\r") != count + 1 or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        self._started = True
        self._held = [head]
        if self._chunked or self._left < 0:
            self._flush()

    def _write(self, body: bytes, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        if self._chunked:
            if body:
                self._held += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                self._held.append(b"0\r\n\r\n")
        elif body:
            if self._left >= 0:
                if len(body) > self._left:
                    raise RuntimeError("the answer is longer than its length said")
                self._left -= len(body)
            self._held.append(body)
        if not more:
            if self._left > 0:
                raise RuntimeError("the answer is shorter than its length said")
            self.finished = True
        self._flush()
        if not more:
            self.wake()
            if not self.keep_alive:
                self._connection.transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if not held:
            return
        if len(held) == 1:
            self._connection.transport.write(held[0])
        elif sum(map(len, held)) <= JOINED_BYTES:
            self._connection.transport.write(b"".join(held))
        else:
            self._connection.transport.writelines(held)


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


def _expects(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
