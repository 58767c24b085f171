"""The yardstick: the least that a hub written in Python over aiohttp can be, for one server behind it.

Per call: the token's hash looked up, the message parsed, the tool looked up and allowed, the request passed on, one
audit row (written in batches), one counter and one histogram. No eras, no sessions, no isolation, no hash chain,
no list of its own (`tools/list` is passed on too). It prints `{"port": N}`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sqlite3
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from time import perf_counter, time
from typing import Any

import aiohttp
import orjson

from benchmarks.mock import Event, Receive, Send, serve_http

PASSED = frozenset({b"accept", b"content-type", b"mcp-session-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name"})
DROPPED = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"date", b"server"})
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FLUSH_SECONDS = 0.5

Row = tuple[float, str, str, str, str, float]


class Floor:
    """The ASGI app."""

    def __init__(self, upstream: str, token: str, allowed: list[str], database: Path) -> None:
        self._upstream = upstream
        self._keys = {hashlib.sha256(token.encode()).digest(): "bench"}
        self._routes = dict.fromkeys(allowed, upstream)
        self._client: aiohttp.ClientSession | None = None
        self._rows: list[Row] = []
        self._database = database
        self._flusher: asyncio.Task[None] | None = None
        self._calls: Counter[tuple[str, str]] = Counter()
        self._histogram = [0] * (len(BUCKETS) + 1)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """One request."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        subject = self._subject(headers)
        if subject is None:
            await _respond(send, 401, [], b'{"error":"unauthorized"}')
            return
        body = b""
        more = True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        message = orjson.loads(body)
        began, name = perf_counter(), ""
        upstream = self._upstream
        if message.get("method") == "tools/call":
            name = message["params"]["name"]
            if name not in self._routes:
                await _respond(send, 403, [], b'{"error":"forbidden"}')
                return
            upstream = self._routes[name]
        outcome = await self._pass_on(upstream, headers, body, send)
        self._record(subject, str(message.get("method")), name, outcome, perf_counter() - began)

    def _subject(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        for name, value in headers:
            if name == b"authorization":
                return self._keys.get(hashlib.sha256(value.removeprefix(b"Bearer ")).digest())
        return None

    async def _pass_on(self, upstream: str, headers: list[tuple[bytes, bytes]], body: bytes, send: Send) -> str:
        client = self._client
        if client is None:
            timeout = aiohttp.ClientTimeout(total=60)
            client = self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=timeout, auto_decompress=False
            )
            self._flusher = asyncio.create_task(self._flush())
        passed = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in PASSED}
        async with client.post(upstream, data=body, headers=passed) as answer:
            kept = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in DROPPED]
            if answer.content_type != "text/event-stream":
                await _respond(send, answer.status, kept, await answer.read())
                return "ok" if answer.status < 400 else "error"
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return "ok"

    def _record(self, subject: str, method: str, name: str, outcome: str, seconds: float) -> None:
        self._rows.append((time(), subject, method, name, outcome, seconds))
        self._calls[name, outcome] += 1
        self._histogram[bisect_left(BUCKETS, seconds)] += 1

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            rows, self._rows = self._rows, []
            if rows:
                await asyncio.to_thread(_write, self._database, rows)


def _write(path: Path, rows: list[Row]) -> None:
    database = sqlite3.connect(path)
    try:
        database.execute("pragma journal_mode=wal")
        database.execute("create table if not exists audit (at, subject, method, name, outcome, seconds)")
        database.executemany("insert into audit values (?, ?, ?, ?, ?, ?)", rows)
        database.commit()
    finally:
        database.close()


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    start: dict[str, Any] = {"type": "http.response.start", "status": status}
    start["headers"] = [*headers, (b"content-length", b"%d" % len(body))]
    await send(start)
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("--token", required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--allow", action="append", default=[])
    arguments = parser.parse_args()
    serve_http(Floor(arguments.upstream, arguments.token, arguments.allow, arguments.database))


if __name__ == "__main__":
    main()
