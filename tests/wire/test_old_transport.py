"""A server of 2024-11-05 (HTTP+SSE) behind the hub, driven by clients of both eras."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

from tests.support.hub import Era, running_hub
from tests.support.upstreams import serving

pytestmark = pytest.mark.anyio


class Who(BaseModel):
    name: str


@contextlib.asynccontextmanager
async def old_server() -> AsyncGenerator[str]:
    server = MCPServer("old")

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    async def greet(ctx: Context) -> str:
        """Asks who is there, and greets."""
        answer = await ctx.elicit("Who?", Who)
        return f"hello {answer.data.name}" if answer.action == "accept" else "nobody"

    server.add_tool(add)
    server.add_tool(greet)
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


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_its_questions_reach_the_client_whose_call_they_belong_to(era: Era, tmp_path: Path) -> None:
    async with old_server() as url, running_hub(tmp_path) as running, asyncio.timeout(20):
        await running.register("old", url)
        greeted: dict[str, str] = {}

        async def greet(name: str) -> None:
            async def answer(_ctx: Any, _params: Any) -> types.ElicitResult:
                return types.ElicitResult(action="accept", content={"name": name})

            async with running.connect(era, elicitation_callback=answer) as client:
                called = await client.call_tool("greet")
                greeted[name] = getattr(called.content[0], "text", "")

        await asyncio.gather(*(greet(f"caller {number}") for number in range(6)))
    assert greeted == {f"caller {number}": f"hello caller {number}" for number in range(6)}
