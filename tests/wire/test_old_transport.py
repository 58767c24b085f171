"""A server of 2024-11-05 (HTTP+SSE) behind the hub, driven by clients of both eras."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer

from tests.support.hub import Era, running_hub
from tests.support.upstreams import serving

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def old_server() -> AsyncGenerator[str]:
    server = MCPServer("old")

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    server.add_tool(add)
    async with serving(server.sse_app(), lifespan=False) as base:
        yield f"{base}/sse"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_its_tools_work_for_clients_of_both_eras(era: Era, tmp_path: Path) -> None:
    async with old_server() as url, running_hub(tmp_path) as running:
        shown: dict[str, Any] = await running.register("old", url)
        assert shown["eras"] == ["legacy"]
        async with running.connect(era) as client:
            called = await client.call_tool("add", {"a": 2, "b": 3})
            assert getattr(called.content[0], "text", "") == "5"
            failed = await client.call_tool("add", {"a": "x"})
            assert failed.is_error
