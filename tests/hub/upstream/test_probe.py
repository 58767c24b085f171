"""A look at servers that answer with what the protocol does not know: an error that names them, never a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.errors import UpstreamError
from hub.upstream.address import Address, Wanted
from hub.upstream.probe import survey
from hub.upstream.terms import Deadlines, Terms
from tests.support.legacy import STREAM, event, legacy
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio

TERMS = Terms(Deadlines(2, 2))


def answering(results: dict[str, Any]) -> Any:
    async def behave(one: Exchange) -> None:
        method = one.message.get("method", "")
        if method in results:
            await one.answer(results[method])
        else:
            await one.whole(b"{}", "405 Method Not Allowed")

    return behave


DISCOVERED: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}

LIES: dict[str, tuple[Wanted, dict[str, Any]]] = {
    "a greeting that is a list": ("legacy", {"initialize": []}),
    "a greeting that is nothing": ("legacy", {"initialize": None}),
    "a version that is an object": ("legacy", {"initialize": {"protocolVersion": {}}}),
    "versions that are a text": ("modern", {"server/discover": DISCOVERED | {"supportedVersions": "2026-07-28"}}),
    "versions that are a number": ("modern", {"server/discover": DISCOVERED | {"supportedVersions": 5}}),
    "a discovery that is a list": ("modern", {"server/discover": []}),
    "tools that are a list": ("modern", {"server/discover": DISCOVERED, "tools/list": []}),
    "a cursor that is an object": (
        "modern",
        {"server/discover": DISCOVERED, "tools/list": {"tools": [], "nextCursor": {"a": 1}}},
    ),
    "tools that are an object": ("modern", {"server/discover": DISCOVERED, "tools/list": {"tools": {}}}),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_the_servers_error(lie: str) -> None:
    wanted, results = LIES[lie]
    async with RawServer(answering(results)) as server, asyncio.timeout(5):
        with pytest.raises(UpstreamError):
            await survey(Address(server.url), wanted, TERMS)


async def test_an_answer_on_a_stream_without_result_or_error_is_the_servers_error() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(STREAM + event(b'{"jsonrpc":"2.0","id":"initialize"}'))
        one.close()

    async with RawServer(behave) as server, asyncio.timeout(5):
        with pytest.raises(UpstreamError):
            await survey(Address(server.url), "legacy", TERMS)


async def test_a_lie_over_the_old_transport_is_the_servers_error() -> None:
    streams: list[Exchange] = []
    over = asyncio.Event()

    async def behave(one: Exchange) -> None:
        if one.head.startswith(b"GET"):
            streams.append(one)
            await one.send(STREAM + b"event: endpoint\r\ndata: /messages?s=1\r\n\r\n")
            await over.wait()
            return
        await one.whole(b"", "202 Accepted" if b"/messages" in one.head else "405 Method Not Allowed")
        if one.message.get("method") == "initialize" and streams:
            await streams[0].send(event(b'{"jsonrpc":"2.0","id":"initialize","result":[]}'))

    async with RawServer(behave) as server, asyncio.timeout(5):
        with pytest.raises(UpstreamError):
            await survey(Address(server.url, transport="sse"), "legacy", TERMS)


async def test_pages_that_lead_in_a_circle_are_read_once_and_told() -> None:
    tool = {"name": "act", "inputSchema": {"type": "object"}}
    results = {"server/discover": DISCOVERED, "tools/list": {"tools": [tool], "nextCursor": "again"}}
    async with RawServer(answering(results)) as server, asyncio.timeout(5):
        found = await survey(Address(server.url), "modern", TERMS)
    assert len(found.definitions["modern", "tool"]) == 2
    assert "circle" in found.problems[0]


async def test_a_good_server_beside_them_is_seen() -> None:
    async def never(one: Exchange) -> None:
        raise AssertionError(one)

    async with RawServer(legacy(never)) as server:
        found = await survey(Address(server.url), "legacy", TERMS)
    assert len(found.definitions["legacy", "tool"]) == 1
