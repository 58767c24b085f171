"""Requests to a child that serves HTTP on a socket of its own, streamed both ways over one connection each.

A connection to a local socket costs tens of microseconds, and one per request never meets a half-dead one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httptools
from starlette.types import Receive, Scope, Send

from hub.errors import OutcomeUnknown, UpstreamDown
from hub.runner.http import problem
from hub.runner.process import READ_BYTES, Process

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect")
)
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class HttpPeer:
    """A running `http` child and where it listens."""

    process: Process
    socket: Path


async def accepts(peer: HttpPeer, seconds: float) -> bool:
    """Wait until the child accepts connections; False when it ended or took longer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    pause = 0.01
    while loop.time() < end and not peer.process.ended.is_set():
        try:
            _, writer = await asyncio.open_unix_connection(peer.socket)
        except OSError:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)
            continue
        writer.close()
        return True
    return False


async def relay(name: str, peer: HttpPeer, path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Relay one request. A client that leaves closes the connection to the child."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(peer.socket, limit=READ_BYTES * 4)
    except (OSError, TimeoutError):
        await problem(send, UpstreamDown(f"server {name!r} does not accept connections", hint="see its log"))
        return
    response = Response(send)
    uploading = asyncio.create_task(upload(writer, path, scope, receive))
    downloading = asyncio.create_task(response.read(reader, scope["method"]))
    try:
        await asyncio.wait([uploading, downloading], return_when=asyncio.FIRST_COMPLETED)
        if not downloading.done() and not uploading.cancelled() and uploading.exception() is None:
            return  # the client left
        await asyncio.wait([downloading])
        downloading.result()
    except (OSError, httptools.HttpParserError):
        if not response.started:
            fault = OutcomeUnknown(f"server {name!r} ended during the call", hint="look before you repeat it")
            await problem(send, fault)
    finally:
        uploading.cancel()
        downloading.cancel()
        writer.close()


async def upload(writer: asyncio.StreamWriter, path: str, scope: Scope, receive: Receive) -> None:
    """Send the request, then wait for the client to leave. Returns when it did."""
    query: bytes = scope["query_string"]
    # The path came decoded: written as it is, it could hold a line break and with it headers.
    target = quote(path, safe="/:@!$&'()*+,;=~").encode() + (b"?" + query if query else b"")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    sized = any(key == b"content-length" for key, _ in headers)
    chunked = not sized and any(key == b"transfer-encoding" for key, _ in headers)
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode(), target), b"connection: close"]
    lines += [b"%b: %b" % (key, value) for key, value in headers if key not in HOP_BY_HOP]
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    more = True
    while True:
        event: Any = await receive()
        if event["type"] == "http.disconnect":
            return
        if not more:
            continue
        body: bytes = event.get("body", b"")
        more = event.get("more_body", False)
        if body:
            writer.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
        if chunked and not more:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


class Response:
    """Collects what the parser finds and hands it on as it comes."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._complete = False
        self._head = False
        self._parser = httptools.HttpResponseParser(self)

    async def read(self, reader: asyncio.StreamReader, method: str) -> None:
        """Read the whole response and send it on. Raises ConnectionError when it ends early."""
        while not self._complete:
            data = await reader.read(READ_BYTES)
            if not data:
                if not self.started or self._sized():
                    raise ConnectionResetError("the response ended early")
                break
            self._parser.feed_data(data)
            if self._head and not self.started:
                self.started = True
                status = self._parser.get_status_code()
                await self._send({"type": "http.response.start", "status": status, "headers": self._headers})
                if method == "HEAD" or status in (204, 304):
                    break
            if self._parts:
                body = b"".join(self._parts)
                self._parts.clear()
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    def _sized(self) -> bool:
        return any(key == b"content-length" for key, _ in self._headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if name.lower() not in HOP_BY_HOP:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser; an interim 1xx response is passed over."""
        if self._parser.get_status_code() < 200:
            self._headers.clear()
        else:
            self._head = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._complete = self._head
