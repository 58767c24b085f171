"""A fake inference engine on a local socket: raw HTTP, so that it can also die, hang, flood and lie."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


class Exchange:
    """One request to the engine, and the means to answer it well or badly."""

    def __init__(self, path: str, headers: dict[str, str], body: Any, writer: asyncio.StreamWriter) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self._writer = writer

    async def send(self, raw: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, value: Any, status: int = 200, headers: str = "") -> None:
        """A whole JSON answer (bytes are sent as the body as they are)."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)

    async def begin(self) -> None:
        """The head of an event stream."""
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def piece(self, raw: bytes) -> None:
        """A piece of the stream."""
        await self.send(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

    async def event(self, value: Any) -> None:
        """An event of the stream."""
        await self.piece(b"data: " + json.dumps(value).encode() + b"\n\n")

    async def end(self, done: bool = True) -> None:
        """The orderly end of the stream."""
        if done:
            await self.piece(b"data: [DONE]\n\n")
        await self.send(b"0\r\n\r\n")

    def die(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def completion(text: str, **more: Any) -> dict[str, Any]:
    """A whole answer as engines give it."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "/secret/path.gguf",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        "timings": {"kept": True},
    } | more


def chunk(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A piece of a streamed answer."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]} | more


class FakeEngine:
    """Listens on `socket`; `behaviour` answers, and may be exchanged at any time."""

    def __init__(self, socket: Path, behaviour: Behaviour) -> None:
        self.socket = socket
        self.behaviour = behaviour
        self.seen: list[Exchange] = []
        self.connections = 0
        self.left = asyncio.Event()
        """Set when a caller hung up while it was being answered."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeEngine:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
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
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        exchange = Exchange(head[0].split()[1], headers, json.loads(body) if body else None, writer)
        self.seen.append(exchange)
        work = asyncio.ensure_future(self.behaviour(exchange))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            work.result()
            return not writer.is_closing()
        work.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
        self.left.set()
        return False
