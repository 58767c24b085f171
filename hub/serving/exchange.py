"""One request and its answer as ASGI has them, on a connection that frames them (`connection.py`)."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from starlette.types import ASGIApp, Message

JOINED_BYTES = 16 * 1024
"""Up to here head and body are copied into one buffer; beyond, copying costs more than a second buffer to write."""

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}
BODILESS = frozenset({204, 304})

log = logging.getLogger("hub.http")


class Line(Protocol):
    """The connection, as far as an exchange needs it."""

    loop: asyncio.AbstractEventLoop
    transport: Any
    closed: bool
    writable: asyncio.Future[None] | None
    """Waited for while the caller does not take what was sent."""

    def common_lines(self) -> bytes:
        """What every answer carries."""
        ...

    def resume(self) -> None:
        """Read on: what came was taken."""
        ...

    def done(self, exchange: Exchange) -> None:
        """The exchange is over."""
        ...


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

    def __init__(self, connection: Line, scope: dict[str, Any], keep_alive: bool) -> None:
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
        if self.more and not self._told and _expects(self.scope["headers"]):
            # It was not told to go on, so what it sends next may be the body or another request: nobody could tell.
            self.keep_alive = False
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


def _expects(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
