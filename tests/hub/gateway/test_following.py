"""Clients that follow resources, of servers of either era: one stream to each server, shared by all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson
import pytest

from tests.support.everything import WATCHED
from tests.support.hub import META, Behind, RunningHub, modern_headers, modern_message

pytestmark = pytest.mark.anyio

TEXT = "test://static-text"
UPDATED = "notifications/resources/updated"


class Heard:
    """The messages of an event stream, as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line.startswith("data: "):
                    return orjson.loads(line[6:])
        raise AssertionError("the stream ended")


@contextlib.asynccontextmanager
async def listening(
    running: RunningHub, *uris: str, path: str = "/mcp", token: str | None = None
) -> AsyncGenerator[Heard]:
    """A modern client that follows resources; the acknowledgement was read and is right."""
    wanted: dict[str, Any] = {"notifications": {"resourceSubscriptions": list(uris)}}
    told = modern_headers("subscriptions/listen") | running.bearer(token)
    body = orjson.dumps(modern_message("subscriptions/listen", wanted, "mine"))
    async with running.http.stream("POST", path, content=body, headers=told) as answer:
        heard = Heard(answer)
        acknowledged = await heard.next()
        assert acknowledged["params"]["notifications"]["resourceSubscriptions"] == list(uris)
        yield heard


@contextlib.asynccontextmanager
async def streaming(running: RunningHub, headers: dict[str, str], path: str = "/mcp") -> AsyncGenerator[Heard]:
    """The GET stream of a legacy session."""
    async with running.http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        yield Heard(answer)


async def subscribe(running: RunningHub, headers: dict[str, str], uri: str, method: str = "subscribe") -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": f"resources/{method}", "params": {"uri": uri}}
    answer = await running.http.post("/mcp", json=body, headers=headers)
    assert answer.json()["result"] == {}


def listens(behind: Behind) -> list[list[str]]:
    """The filters of the listens for resources that a server was asked for."""
    asked = [one.message["params"]["notifications"] for one in behind.recorded.asked("subscriptions/listen")]
    return [one["resourceSubscriptions"] for one in asked if "resourceSubscriptions" in one]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/s/everything"])
async def test_a_modern_client_follows_resources_of_a_legacy_server(running: RunningHub, path: str) -> None:
    behind = await running.everything(only="legacy")
    async with listening(running, WATCHED, path=path) as one, listening(running, WATCHED, TEXT, path=path) as other:
        await behind.server.update(WATCHED)
        for heard in (one, other):
            told = await heard.next()
            assert told["method"] == UPDATED
            assert told["params"] == {"uri": WATCHED, "_meta": {f"{META}subscriptionId": "mine"}}
        await behind.server.update(TEXT)
        assert (await other.next())["params"]["uri"] == TEXT
    asked = [one.message["params"]["uri"] for one in behind.recorded.asked("resources/subscribe")]
    assert asked == [WATCHED, TEXT], "each once, whoever follows"
    async with asyncio.timeout(5):
        while len(running.hub.follows):
            await asyncio.sleep(0.01)


async def test_what_nobody_follows_any_more_is_unsubscribed(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    async with listening(running, WATCHED) as one:
        async with listening(running, TEXT):
            pass
        async with asyncio.timeout(5):
            while not behind.recorded.asked("resources/unsubscribe"):
                await asyncio.sleep(0.01)
        await behind.server.update(WATCHED)
        assert (await one.next())["params"]["uri"] == WATCHED
    assert [seen.message["params"]["uri"] for seen in behind.recorded.asked("resources/unsubscribe")] == [TEXT]


async def test_legacy_clients_follow_resources_of_a_modern_server_over_one_listen(running: RunningHub) -> None:
    behind = await running.everything(only="modern")
    one, other = await running.session(), await running.session()
    await subscribe(running, one, WATCHED)
    await subscribe(running, other, WATCHED)
    await subscribe(running, other, TEXT)
    assert listens(behind) == [[WATCHED], [TEXT, WATCHED]]
    async with streaming(running, one) as first, streaming(running, other) as second:
        await behind.server.update(WATCHED)
        for heard in (first, second):
            assert await heard.next() == {"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": WATCHED}}
        await behind.server.update(TEXT)
        assert (await second.next())["params"] == {"uri": TEXT}
        await subscribe(running, other, WATCHED, "unsubscribe")
        await behind.server.update(WATCHED)
        await behind.server.update(TEXT)
        assert (await first.next())["params"] == {"uri": WATCHED}
        assert (await second.next())["params"] == {"uri": TEXT}
    for headers in (one, other):
        await running.http.delete("/mcp", headers=headers)
    async with asyncio.timeout(5):
        while len(running.hub.follows):
            await asyncio.sleep(0.01)


async def test_a_legacy_session_that_is_opened_anew_goes_on_following(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    headers = await running.session()
    await subscribe(running, headers, WATCHED)
    session = behind.recorded.asked("resources/subscribe")[-1].headers["mcp-session-id"]
    told = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
    await running.http.delete(f"http://{behind.recorded.seen[-1].headers['host']}/mcp", headers=told)
    body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
    assert "result" in (await running.http.post("/mcp", json=body, headers=headers)).json()
    asked = behind.recorded.asked("resources/subscribe")
    assert [one.message["params"]["uri"] for one in asked] == [WATCHED, WATCHED]
    assert asked[1].headers["mcp-session-id"] != session


async def test_a_server_that_comes_back_is_followed_again(running: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.gateway.follows.RETRY_SECONDS", 0.05)
    behind = await running.everything(only="legacy")
    async with listening(running, WATCHED) as heard:
        first = behind.recorded.asked("resources/subscribe")[0].headers["mcp-session-id"]
        told = {"mcp-session-id": first, "mcp-protocol-version": "2025-11-25"}
        await running.http.delete(f"http://{behind.recorded.seen[-1].headers['host']}/mcp", headers=told)
        async with asyncio.timeout(10):
            while len(behind.recorded.asked("resources/subscribe")) < 2:
                await asyncio.sleep(0.01)
        await behind.server.update(WATCHED)
        assert (await heard.next())["params"]["uri"] == WATCHED
