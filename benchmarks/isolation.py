"""`python -m benchmarks.isolation`: twenty servers, four of them ill, and what the sixteen healthy ones notice of it.

One accepts and says nothing, one drips, one resets every connection, one offers schemas that are none; all four are
called all the while, ill or well. Told are the p99 of a page of the aggregate list, and of a healthy server's call
against the same call while the four were well, in windows by turns, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from benchmarks import hub, machine

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
HEALTHY = 16
ROUNDS, WINDOW_SECONDS = 4, 2.0
LIST_BOUND, CALL_RATIO = 0.020, 1.2


class Ill:
    """A server that is well until it is told otherwise."""

    def __init__(self, illness: str) -> None:
        self.illness = illness
        self.ill = False

    async def start(self) -> str:
        """Its URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
                message = orjson.loads(await reader.readexactly(length) or b"{}")
                if self.ill and self.illness == "silent":
                    await asyncio.sleep(3600)
                if self.ill and self.illness == "resets":
                    writer.transport.abort()
                    return
                if self.ill and self.illness == "drips":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                    while True:
                        writer.write(b" ")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                body = self._answer(message)
                writer.write(HEAD % len(body) + body)
                await writer.drain()

    def _answer(self, message: dict[str, Any]) -> bytes:
        schema: dict[str, Any] = {"type": "object"}
        if self.illness == "schemas" and self.ill:
            schema = {"type": 5}
        result: dict[str, Any] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        match message.get("method"):
            case "server/discover":
                told: dict[str, Any] = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
                result |= told
            case "tools/list":
                good: dict[str, Any] = {"name": "ok", "inputSchema": {"type": "object"}}
                result |= {"tools": [{"name": "act", "inputSchema": schema}, good]}
            case _:
                result |= {"content": []}
        return orjson.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result})


async def measured(work: Callable[[], Awaitable[None]], seconds: float) -> list[float]:
    """Latencies of doing this again and again, one after the other."""
    found: list[float] = []
    end = time.perf_counter() + seconds

    while time.perf_counter() < end:
        began = time.perf_counter()
        await work()
        found.append(time.perf_counter() - began)
    return found


def p99(latencies: list[float]) -> float:
    """The 99th percentile."""
    return sorted(latencies)[int(len(latencies) * 0.99)]


async def compare(running: hub.Hub, port: int) -> dict[str, float]:
    """All of it."""
    ill = [Ill(illness) for illness in ("silent", "drips", "resets", "schemas")]
    servers = {f"well{number:02}": f"http://127.0.0.1:{port}/6/w{number}/mcp" for number in range(HEALTHY)}
    servers |= {one.illness: await one.start() for one in ill}
    await asyncio.to_thread(running.add, servers)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:

        async def ask(method: str, params: dict[str, Any], name: str = "") -> None:
            meta: dict[str, Any] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
            headers = {"authorization": f"Bearer {running.token}", "accept": "application/json, text/event-stream"}
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": method} | ({"mcp-name": name} if name else {})
            message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
            await http.post(running.url, json=message, headers=headers)

        async def call() -> None:
            await ask("tools/call", {"name": "well00__echo", "arguments": {"text": "x"}}, "well00__echo")

        async def page() -> None:
            await ask("tools/list", {})

        async def pester(one: Ill) -> None:
            while True:
                await ask("tools/call", {"name": f"{one.illness}__ok", "arguments": {}}, f"{one.illness}__ok")
                await asyncio.sleep(0.05)

        callers = [asyncio.create_task(pester(one)) for one in ill for _ in range(2)]
        await measured(call, 1.0)
        calm: list[float] = []
        disturbed: list[float] = []
        pages: list[float] = []
        for _ in range(ROUNDS):
            for one in ill:
                one.ill = False
            await asyncio.sleep(0.5)
            calm += await measured(call, WINDOW_SECONDS)
            for one in ill:
                one.ill = True
            await asyncio.sleep(0.5)
            disturbed += await measured(call, WINDOW_SECONDS)
            pages += await measured(page, WINDOW_SECONDS)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        return {"calm": p99(calm), "disturbed": p99(disturbed), "list": p99(pages)}


def main() -> int:
    """The command line."""
    with machine.helper("mock") as mock, hub.running() as running:
        found = asyncio.run(compare(running, mock.port))
    ratio = found["disturbed"] / found["calm"]
    print(f"p99 of a page of the list, four of twenty servers ill: {found['list'] * 1000:.1f} ms (bound 20 ms)")
    calm, disturbed = found["calm"] * 1000, found["disturbed"] * 1000
    print(f"p99 of a healthy server's call: {calm:.1f} ms calm, {disturbed:.1f} ms disturbed")
    print(f"ratio: {ratio:.2f} (bound {CALL_RATIO})")
    return 0 if found["list"] < LIST_BOUND and ratio <= CALL_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
