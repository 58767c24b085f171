"""A misbehaving proxy: stands in front of a real server and breaks what passes, at the stage and in the way it is told.

It speaks HTTP/1.1 by hand, one connection to the server per request. Requests that the armed fault does not concern
pass unchanged, so that a server can be registered, looked at and greeted through it before it breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

ENDLESS_CHUNK = b" " * 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """All of it, with the connection to be closed after it."""
        lines = [line for line in self.head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
        return b"\r\n".join([*lines, b"connection: close", b"", b""]) + self.body


class FaultyProxy:
    """Listens on loopback in front of `target`. `arm` says which requests are broken how; `disarm` mends it."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._host, self._port, self._path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path
        self._fault = ""
        self._concerns: Callable[[Request], bool] = lambda _: False
        self._times = 0
        self.passed: list[Request] = []
        """Requests that reached the server, whole."""
        self.broken = 0
        """Requests that were broken."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultyProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, fault: str, concerns: Callable[[Request], bool], times: int = 10**9) -> None:
        """Break the next `times` requests of concern in this way."""
        self._fault, self._concerns, self._times = fault, concerns, times

    def disarm(self) -> None:
        """Pass everything again."""
        self._times = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._times > 0 and self._fault == "reset on accept":
                self._times -= 1
                self.broken += 1
                writer.transport.abort()
                return
            while not writer.is_closing():
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        request = Request(head, await reader.readexactly(length) if length else b"")
        if self._times > 0 and self._concerns(request):
            self._times -= 1
            self.broken += 1
            await self._break(request, reader, writer)
            return
        await self._pass(request, reader, writer)

    async def _pass(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To the server and back, byte for byte; a client that leaves closes the connection to the server."""
        self.passed.append(request)
        behind, ahead = await asyncio.open_connection(self._host, self._port, limit=2**20)
        ahead.write(request.raw)
        gone = asyncio.ensure_future(reader.read(1))

        async def back() -> None:
            while chunk := await behind.read(65_536):
                writer.write(chunk)
                await writer.drain()

        answer = asyncio.ensure_future(back())
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            answer.cancel()
            await asyncio.gather(gone, answer, return_exceptions=True)
            ahead.close()
            writer.close()

    async def _answered(self, request: Request) -> tuple[bytes, bytes]:
        """The server's whole answer, as head and body; the effect has been had."""
        self.passed.append(request)
        behind, ahead = await asyncio.open_connection(self._host, self._port, limit=2**24)
        ahead.write(request.raw)
        try:
            head = await behind.readuntil(b"\r\n\r\n")
            rest = b""
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), -1
            )
            rest = await behind.readexactly(length) if length >= 0 else await behind.read(2**24)
        finally:
            ahead.close()
        return head, rest

    async def _break(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._fault
        if fault in SILENT:
            await asyncio.Event().wait()
        elif fault in ("reset after the request", "reset on accept"):
            writer.transport.abort()
        elif fault == "502":
            await _send(writer, whole(b"<html>Bad Gateway</html>", "502 Bad Gateway", "text/html"))
        elif fault == "redirect":
            await _send(writer, b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")
        elif fault == "half-close":
            writer.write_eof()
            await asyncio.Event().wait()
        else:
            head, body = await self._answered(request)
            await _spoil(fault, head, body, request, writer)


SILENT = frozenset({"black hole"})


async def _spoil(fault: str, head: bytes, body: bytes, request: Request, writer: asyncio.StreamWriter) -> None:
    """What becomes of an answer that the server gave in good order."""
    if fault == "reset before the answer":
        writer.transport.abort()
    elif fault == "reset within the head":
        await _send(writer, head[: len(head) // 2])
        writer.transport.abort()
    elif fault == "reset after the head":
        await _send(writer, head)
        writer.transport.abort()
    elif fault == "reset within the answer":
        await _send(writer, head + body[: len(body) // 2])
        writer.transport.abort()
    elif fault == "truncated stream":
        await _send(writer, STREAM + b": hello\n\n" + b'data: {"jsonrpc":"2.0",')
        writer.close()
    elif fault == "silent stream":
        await _send(writer, STREAM + b": hello\n\n")
        await asyncio.Event().wait()
    elif fault == "slow drip":
        await _send(writer, DRIP)
        while True:
            await _send(writer, b" ")
            await asyncio.sleep(0.02)
    elif fault == "endless answer":
        await _send(writer, b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            await _send(writer, ENDLESS_CHUNK)
    elif fault == "endless event":
        await _send(writer, STREAM + b"data: ")
        while True:
            await _send(writer, ENDLESS_CHUNK)
    else:
        await _send(writer, _rewritten(fault, request))
        writer.close()


def _rewritten(fault: str, request: Request) -> bytes:
    """A whole answer, in good HTTP, that says something else than it should."""
    identifier = identifier_of(request)
    result = b'{"content":[],"resultType":"complete"}'
    match fault:
        case "mismatched id":
            return whole(b'{"jsonrpc":"2.0","id":"nobody","result":%b}' % result)
        case "wrong content type":
            return whole(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, result), kind="text/html")
        case "invalid UTF-8":
            text = b'{"content":[{"type":"text","text":"\xff\xfe"}]}'
            return whole(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, text))
        case "deep JSON":
            deep = b"[" * 100_000 + b"]" * 100_000
            return whole(b'{"jsonrpc":"2.0","id":%b,"result":{"content":%b}}' % (identifier, deep))
        case "duplicate keys":
            twice = b'{"content":[],"content":[{"type":"text","text":"second"}],"resultType":"complete"}'
            return whole(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, twice))
        case "not HTTP":
            return b"220 mail.example.com ESMTP\r\n"
        case _:
            raise ValueError(fault)


DRIP = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def whole(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer in good HTTP."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def identifier_of(request: Request) -> bytes:
    """The id of a JSON-RPC request, as JSON."""
    _, _, rest = request.body.partition(b'"id":')
    rest = rest.lstrip()
    if rest.startswith(b'"'):
        return rest[: rest.index(b'"', 1) + 1]
    return rest[: next((place for place, byte in enumerate(rest) if byte in b",} "), len(rest))] or b"null"


async def _send(writer: asyncio.StreamWriter, raw: bytes) -> None:
    writer.write(raw)
    await writer.drain()
