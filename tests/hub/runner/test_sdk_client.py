"""The official SDK's client on a stdio server behind the runner, in both eras."""

from __future__ import annotations

from typing import Literal

import httpx2
import pytest
from mcp import Client as SdkClient
from mcp.client.streamable_http import streamable_http_client

from tests.hub.runner.harness import Client, RunnerProcess, script

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_calls_a_dual_era_server(
    client: Client, runner: RunnerProcess, mode: Literal["auto", "legacy"]
) -> None:
    await client.want("both", script("both"))
    transport = httpx2.AsyncHTTPTransport(uds=runner.socket)
    async with (
        httpx2.AsyncClient(transport=transport, timeout=30) as http,
        SdkClient(streamable_http_client("http://runner/s/both/mcp", http_client=http), mode=mode) as sdk,
    ):
        assert [tool.name for tool in (await sdk.list_tools()).tools] == ["add"]
        seen: list[float] = []

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        result = await sdk.call_tool("add", {"a": 20, "b": 22}, progress_callback=progressed)
        assert result.structured_content == {"result": 42}
        assert seen == [1]
