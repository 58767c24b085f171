"""Servers to stand behind the hub: good ones that remember what they were asked, and a raw socket that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MODERN = b"2026-07-28"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to the test runner."""
        yield


def free_socket() -> socket.socket:
    """A listening socket on loopback; the system chose the port."""
    # Named as TCP, or asyncio does not switch off delays on what it accepts (40 ms an answer).
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    return listener


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket | None = None, *, lifespan: bool = True, http: Any = "httptools"
) -> AsyncGenerator[str]:
    """An ASGI app on loopback, in this loop; gives its base URL."""
    listener = listener or free_socket()
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="on" if lifespan else "off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(20):
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=10)
        listener.close()


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON; empty when there is none."""
        return orjson.loads(self.body) if self.body else {}


@dataclass
class Recorded:
    """An ASGI app in front of another that keeps every request, and can pretend to know one era only."""

    app: ASGIApp
    only: Literal["", "modern", "legacy"] = ""
    seen: list[Seen] = field(default_factory=list[Seen])

    def asked(self, method: str) -> list[Seen]:
        """The requests for one JSON-RPC method."""
        return [one for one in self.seen if one.message.get("method") == method]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep, maybe refuse, hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, event = b"", await receive()
        while event["type"] == "http.request":
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
            event = await receive()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.seen.append(Seen(scope["method"], scope["path"], headers, body))
        modern = headers.get("mcp-protocol-version", "").encode() == MODERN
        if self.only and modern != (self.only == "modern"):
            await self._refuse(send)
            return
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        await self.app(scope, again, send)

    async def _refuse(self, send: Send) -> None:
        code = -32022 if self.only == "modern" else -32600
        data = {"supported": ["2026-07-28"], "requested": ""} if self.only == "modern" else None
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": "Not this revision", "data": data}}
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": orjson.dumps(error)})


class Exchange:
    """One request to a `RawServer`, and the bytes to answer it with."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self._writer = writer

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON."""
        return orjson.loads(self.body) if self.body else {}

    async def send(self, raw: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, result: Any, headers: str = "") -> None:
        """A good JSON-RPC result."""
        body = orjson.dumps({"jsonrpc": "2.0", "id": self.message.get("id"), "result": result})
        await self.whole(body, headers=headers)

    async def whole(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        """A whole answer of a JSON type."""
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)

    def reset(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()

    def close(self) -> None:
        """End the connection in good order."""
        self._writer.close()


Behaviour = Callable[[Exchange], Awaitable[None]]


class RawServer:
    """HTTP/1.1 by hand on loopback: `behaviour` says what becomes of a request, and may be exchanged any time."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self._tls = tls
        self.connections = 0
        self.seen: list[Exchange] = []
        self.left = asyncio.Event()
        """Set when a caller hung up while it waited for its answer."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        where = "https://localhost" if self._tls else "http://127.0.0.1"
        self.url = f"{where}:{self._server.sockets[0].getsockname()[1]}/mcp"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        exchange = Exchange(head, await reader.readexactly(length), writer)
        self.seen.append(exchange)
        work = asyncio.ensure_future(self.behaviour(exchange))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            self.left.set()
            writer.close()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
