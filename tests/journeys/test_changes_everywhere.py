"""A change at a backend reaches every connected client of every worker, and whoever asks then gets it (field: P13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.everything import Everything
from tests.support.hub import modern_headers, modern_message
from tests.support.installation import Installation, installed
from tests.support.upstreams import Recorded, serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

STREAMS = 10
"""Of each era, on connections of their own: the chance that one worker has them all is one in a thousand."""


@asynccontextmanager
async def two_workers(folder: Path) -> AsyncGenerator[tuple[Installation, Everything]]:
    """A hub of two workers that watches a server of both eras."""
    server = Everything("changing")
    recorded = Recorded(server.app())
    started = installed(folder, "--bare", "--workers", "2")
    async with serving(recorded) as base:
        installation = await asyncio.to_thread(started.__enter__)
        try:
            await asyncio.to_thread(installation.run, "servers", "add", "changing", f"{base}/mcp", code=0)
            async with asyncio.timeout(20):
                while not recorded.asked("subscriptions/listen"):
                    await asyncio.sleep(0.02)
            yield installation, server
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


async def test_every_client_of_every_worker_is_told_and_then_gets_the_new_list(tmp_path: Path) -> None:
    async with two_workers(tmp_path / "home") as (installation, server), AsyncExitStack() as stack:
        token = await asyncio.to_thread(installation.token)
        opened = [stack.enter_async_context(_listening(installation, token)) for _ in range(STREAMS)]
        opened += [stack.enter_async_context(_following(installation, token)) for _ in range(STREAMS)]
        streams = [await one for one in opened]
        told = [asyncio.create_task(_told(installation, token, stream)) for stream in streams]
        await server.change_tools()
        async with asyncio.timeout(10):
            lists = await asyncio.gather(*told)
    assert [names for names in lists if "test_added_tool" not in names] == []


async def _told(installation: Installation, token: str, lines: Any) -> set[str]:
    """Wait until the stream tells of the change, then ask whichever worker takes a new connection."""
    async for line in lines:
        if "notifications/tools/list_changed" in line:
            break
    async with _client(installation, token) as http:
        answer = await http.post("/mcp", json=modern_message("tools/list"), headers=modern_headers("tools/list"))
        return {tool["name"] for tool in answer.json()["result"]["tools"]}


@asynccontextmanager
async def _listening(installation: Installation, token: str) -> AsyncGenerator[Any]:
    """A modern listen stream that was acknowledged."""
    wanted = {"notifications": {"toolsListChanged": True}}
    message, headers = modern_message("subscriptions/listen", wanted), modern_headers("subscriptions/listen")
    async with (
        _client(installation, token) as http,
        http.stream("POST", "/mcp", json=message, headers=headers) as answer,
    ):
        lines = answer.aiter_lines()
        async for line in lines:
            if "acknowledged" in line:
                break
        yield lines


@asynccontextmanager
async def _following(installation: Installation, token: str) -> AsyncGenerator[Any]:
    """A legacy session's GET stream."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    headers = {"accept": "application/json, text/event-stream"}
    async with _client(installation, token) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        opened = await http.post("/mcp", json=body, headers=headers)
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "accept": "text/event-stream"}
        async with http.stream("GET", "/mcp", headers=session) as answer:
            assert answer.status_code == 200
            yield answer.aiter_lines()


def _client(installation: Installation, token: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=installation.url, headers=headers, timeout=30, verify=False)
