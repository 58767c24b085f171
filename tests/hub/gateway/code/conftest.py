"""A shop behind a hub, for programs to work with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult

from tests.support.hub import Era, RunningHub
from tests.support.upstreams import serving


class Order(TypedDict):
    """As the shop has it."""

    id: str
    total: float


@dataclass
class Shop:
    """What the shop has done, and what lets its slow tool go on."""

    server: MCPServer = field(default_factory=lambda: MCPServer("shop"))
    reports: list[str] = field(default_factory=list[str])
    meetings: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def shop(running: RunningHub) -> Shop:
    """A shop's server, registered."""
    shop = Shop()

    @shop.server.tool()
    def list_orders(customer: str, limit: int = 10) -> list[str]:
        """The numbers of a customer's orders."""
        return [f"{customer}-{number}" for number in range(min(limit, 4))]

    @shop.server.tool()
    def get_order(id: str) -> Order:
        """One order."""
        if not id.startswith("acme-"):
            raise ToolError(f"there is no order {id}")
        return {"id": id, "total": 10.5}

    @shop.server.tool()
    def write_report(text: str) -> str:
        """Write a report."""
        shop.reports.append(text)
        return "written"

    @shop.server.tool()
    async def meet() -> str:
        """Wait until three calls are here at once."""
        shop.meetings += 1
        if shop.meetings == 3:
            shop.met.set()
        await shop.met.wait()
        return "met"

    @shop.server.tool()
    async def wait() -> str:
        """Wait to be released."""
        shop.waiting += 1
        await shop.released.wait()
        return "released"

    base = await running.servers.enter_async_context(serving(shop.server.streamable_http_app()))
    await running.register("shop", f"{base}/mcp")
    return shop


async def run(running: RunningHub, code: str, era: Era = "modern", token: str | None = None, **more: Any) -> str:
    """What a program answers. An answer that says it is an error begins with `!`."""
    async with running.connect(era, "/mcp?mode=code", token, **more) as client:
        result = await client.call_tool("run_code", {"code": code})
        return ("!" if result.is_error else "") + said(result)


def said(result: CallToolResult) -> str:
    """The text of a result."""
    return "".join(block.text for block in result.content if block.type == "text")
