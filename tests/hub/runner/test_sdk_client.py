"""The official SDK's client on a stdio server behind the runner, in both eras."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import httpx2
import pytest
from mcp import Client as SdkClient
from mcp.client.streamable_http import streamable_http_client

from tests.hub.runner.harness import Client, RunnerProcess, script

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def reachable(socket: str) -> AsyncGenerator[str]:
    """The runner's socket on a port, byte for byte: anyio's own socket streams, which the client would use, trip over
    a cancellation that meets data (its future is set twice)."""
    pumps: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                target.write(piece)
                await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(socket)
        pumps.update((asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer))))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_calls_a_dual_era_server(
    client: Client, runner: RunnerProcess, mode: Literal["auto", "legacy"]
) -> None:
    await client.want("both", script("both"))
    async with (
        reachable(runner.socket) as base,
        httpx2.AsyncClient(timeout=30) as http,
        SdkClient(streamable_http_client(f"{base}/s/both/mcp", http_client=http), mode=mode) as sdk,
    ):
        assert [tool.name for tool in (await sdk.list_tools()).tools] == ["add"]
        seen: list[float] = []

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        result = await sdk.call_tool("add", {"a": 20, "b": 22}, progress_callback=progressed)
        assert result.structured_content == {"result": 42}
        assert seen == [1]
