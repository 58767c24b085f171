"""A closed-loop load in its own process: N connections, each with one request in flight, every answer verified.

Reads one `Load` as JSON on standard input; prints `begin`, `end`, then one JSON result. Sessions are opened, and
`warmup` seconds are called, before `begin`. A wrong answer ends nothing: it is counted and the first one is told.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import sys
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

LEGACY, MODERN = "2025-11-25", "2026-07-28"
META = "io.modelcontextprotocol/"
CLIENT = {"name": "bench", "version": "1"}
NUMBER = 987654321
"""Stands in a request's template where the number of the call goes, in its id and in its text."""
MARK = b"%d" % NUMBER
ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for, how, and what an answer must hold (`needle` as often as `times`, and `least` bytes)."""

    url: str
    era: str
    connections: int = 1
    seconds: float = 2.0
    warmup: float = 0.3
    method: str = "tools/call"
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    token: str = ""
    needle: str = ""
    times: int = 1
    least: int = 0
    tokens: tuple[str, ...] = ()
    """Keys to use in turn, instead of `token`; modern only, where a call belongs to no session."""
    follow: bool = False
    """Ask for the page after the one that was answered, where there is one."""


@dataclass(slots=True)
class Tally:
    """What happened inside the window; latencies in seconds."""

    latencies: list[float] = field(default_factory=list[float])
    wrong: int = 0
    first_wrong: str = ""
    open: bool = False

    def count(self, began: float, fault: str) -> None:
        """One answered call."""
        if fault:
            self.wrong += 1
            self.first_wrong = self.first_wrong or fault
        elif self.open:
            self.latencies.append(perf_counter() - began)


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self.session = b""
        self._transport: Any = None
        self._parser: Any = None
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opened."""
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Bytes for the parser."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed: whoever waits is told."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed before the answer"))

    def on_message_begin(self) -> None:
        """A new answer."""
        self._parts = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only the session's id is of use."""
        if name.lower() == b"mcp-session-id":
            self.session = value

    def on_body(self, data: bytes) -> None:
        """A part of the answer."""
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """The whole answer."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result((self._parser.get_status_code(), b"".join(self._parts)))

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """The end."""
        self._transport.close()


def template(load: Load) -> bytes:
    """The request's body with `MARK` where the number goes."""
    params = dict(load.params)
    meta: dict[str, Any] = {"progressToken": NUMBER}
    if load.era == "modern":
        meta[META + "protocolVersion"] = MODERN
        meta[META + "clientCapabilities"] = {}
        meta[META + "clientInfo"] = CLIENT
    if load.method == "tools/call" or load.era == "modern":
        params["_meta"] = meta
    return orjson.dumps({"jsonrpc": "2.0", "id": NUMBER, "method": load.method, "params": params})


def head(load: Load, session: bytes = b"") -> bytes:
    """The request's head, up to the number of its content-length."""
    parts = urlsplit(load.url)
    lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json"]
    lines.append("accept: application/json, text/event-stream")
    if load.token:
        lines.append(f"authorization: Bearer {load.token}")
    if load.era == "modern":
        lines += [f"mcp-protocol-version: {MODERN}", f"mcp-method: {load.method}"]
        if load.method == "tools/call":
            lines.append(f"mcp-name: {load.params['name']}")
    elif session:
        lines += [f"mcp-protocol-version: {LEGACY}", f"mcp-session-id: {session.decode()}"]
    return "\r\n".join([*lines, "content-length: "]).encode()


def fault_of(load: Load, number: bytes, status: int, body: bytes) -> str:
    """Why an answer is wrong; empty when it is right."""
    if status != 200:
        return f"HTTP {status}: {body[:300]!r}"
    if b'"id":' + number not in body or b'"isError":true' in body or b'"result":' not in body:
        return f"not the answer: {body[:300]!r}"
    needle = load.needle.encode().replace(MARK, number)
    if body.count(needle) != load.times if load.times > 1 else needle not in body:
        return f"{needle!r} is there {body.count(needle)} times, not {load.times}"
    return f"only {len(body)} bytes" if len(body) < load.least else ""


async def open_connection(load: Load) -> tuple[Connection, bytes]:
    """A connection, with its session in the legacy era, and the head of its requests."""
    parts = urlsplit(load.url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, parts.hostname or "", parts.port or 80)
    if load.era == "modern":
        return connection, head(load)
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    status, answer = await connection.exchange(head(load) + b"%d\r\n\r\n" % len(body) + body)
    if status != 200:
        raise ConnectionError(f"initialize: HTTP {status} {answer[:300]!r}")
    start = head(load, connection.session)
    body = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    await connection.exchange(start + b"%d\r\n\r\n" % len(body) + body)
    return connection, start


async def call_on(load: Load, connection: Connection, start: bytes, tally: Tally, number: int) -> None:
    """Call after call until cancelled."""
    body = template(load)
    heads = [head(replace(load, token=token)) for token in load.tokens] or [start]
    # Each connection begins with another key, so that all of them are in use at any time.
    turn = random.Random(number).randrange(len(heads))
    cursor = b""
    while True:
        number += 1
        digits = b"%d" % number
        message = body.replace(MARK, digits)
        if cursor:
            message = message.replace(b'"params":{', b'"params":{"cursor":"%b",' % cursor, 1)
        began = perf_counter()
        start = heads[turn % len(heads)]
        status, answer = await connection.exchange(start + b"%d\r\n\r\n" % len(message) + message)
        tally.count(began, fault_of(load, digits, status, answer))
        cursor = _next_page(answer) if load.follow else b""
        turn += not cursor


def _next_page(answer: bytes) -> bytes:
    _, found, rest = answer.rpartition(b'"nextCursor":"')
    return rest.partition(b'"')[0] if found else b""


async def run(load: Load) -> dict[str, Any]:
    """The whole load; prints `begin` and `end` as the window opens and closes."""
    tally = Tally()
    opened = [await open_connection(load) for _ in range(load.connections)]
    loops = [
        asyncio.create_task(call_on(load, connection, start, tally, 1_000_000 * (index + 1)))
        for index, (connection, start) in enumerate(opened)
    ]
    try:
        await asyncio.sleep(load.warmup)
        tally.open = True
        print("begin", flush=True)
        began = perf_counter()
        done, _ = await asyncio.wait(loops, timeout=load.seconds, return_when=asyncio.FIRST_EXCEPTION)
        seconds = perf_counter() - began
        tally.open = False
        print("end", flush=True)
    finally:
        for task in loops:
            task.cancel()
        ended = await asyncio.gather(*loops, return_exceptions=True)
        for connection, _ in opened:
            connection.close()
    broken = [repr(error) for error in ended if not isinstance(error, asyncio.CancelledError)]
    if done and broken:
        tally.count(0.0, f"a connection broke: {broken[0]}")
    return summary(tally, seconds)


def summary(tally: Tally, seconds: float) -> dict[str, Any]:
    """Counts and quantiles (milliseconds)."""
    ordered = sorted(tally.latencies)
    return {
        "calls": len(ordered),
        "seconds": seconds,
        "p50": quantile(ordered, 0.5) * 1000,
        "p99": quantile(ordered, 0.99) * 1000,
        "longest": ordered[-1] * 1000 if ordered else 0.0,
        "wrong": tally.wrong,
        "first_wrong": tally.first_wrong,
    }


def quantile(ordered: list[float], share: float) -> float:
    """The nearest-rank quantile; 0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def dump(load: Load) -> str:
    """As the process takes it."""
    return orjson.dumps(asdict(load)).decode()


def main() -> None:
    """The process."""
    load = Load(**orjson.loads(sys.stdin.buffer.read()))
    gc.disable()

    async def bounded() -> dict[str, Any]:
        async with asyncio.timeout(load.seconds + load.warmup + ANSWER_SECONDS):
            return await run(load)

    print(orjson.dumps(uvloop.run(bounded())).decode(), flush=True)


if __name__ == "__main__":
    main()
