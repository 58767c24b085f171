"""Lists: paged, by grants, from what was stored; never empty without a word why (field: P13, P15)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.gateway import listing
from tests.support.hub import RunningHub, events, running_hub
from tests.support.legacy import CALL
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio

FACTS: dict[str, Any] = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 1,
    "cacheScope": "private",
}
REASON = "dev.entrepot/reason"


def tools(server: str, count: int) -> list[dict[str, Any]]:
    return [{"name": f"{server}_{number}", "inputSchema": {"type": "object"}} for number in range(count)]


def modern_server(offered: list[dict[str, Any]]) -> Any:
    """A server of one era that lists these and answers every call."""

    async def act(one: Exchange) -> None:
        match one.message.get("method"):
            case "server/discover":
                await one.answer({"resultType": "complete", **FACTS})
            case "tools/list":
                await one.answer({"resultType": "complete", "tools": offered, "ttlMs": 1, "cacheScope": "private"})
            case "tools/call":
                await one.answer({"resultType": "complete", "content": [{"type": "text", "text": "done"}]})
            case _:
                error = {"jsonrpc": "2.0", "id": one.message.get("id"), "error": {"code": -32601, "message": "no"}}
                await one.whole(orjson.dumps(error), "404 Not Found")

    return act


async def listed(running: RunningHub, token: str | None = None, path: str = "/mcp") -> tuple[list[str], int]:
    """All names, page by page, and the number of pages."""
    names: list[str] = []
    params: dict[str, Any] = {}
    for page in range(1, 50):
        result = events(await running.modern("tools/list", params, path=path, token=token))[-1]["result"]
        names += [one["name"] for one in result["tools"]]
        if "nextCursor" not in result:
            return names, page
        params = {"cursor": result["nextCursor"]}
    raise AssertionError("the list does not end")


async def test_each_caller_pages_through_exactly_what_its_grants_name(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 40)
    async with RawServer(modern_server(tools("a", 100))) as a, RawServer(modern_server(tools("b", 70))) as b:
        await running.register("a", a.url)
        await running.register("b", b.url)
        everything, pages = await listed(running)
        assert (len(everything), pages) == (170, 5)
        one_server = await running.key("one", ["call:b"])
        assert await listed(running, one_server) == ([f"b_{number}" for number in range(70)], 2)
        picked = await running.key("picked", ["call:a/a_3", "call:a/a_77", "call:b"])
        assert (await listed(running, picked))[0] == ["a_3", "a_77", *(f"b_{number}" for number in range(70))]
        # The same grants under another key, and with other scopes beside them, are the same list.
        again = await running.key("again", ["models", "call:b", "call:a/a_77", "call:a/a_3"])
        assert await listed(running, again) == await listed(running, picked)
        assert (await listed(running, picked, "/mcp/s/a"))[0] == ["a_3", "a_77"]


async def test_pages_are_kept_up_to_a_bound_and_stay_right(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 10)
    monkeypatch.setattr(listing, "MOST_BYTES_KEPT", 2000)
    async with RawServer(modern_server(tools("a", 60))) as a:
        await running.register("a", a.url)
        expected = [f"a_{number}" for number in range(60)]
        keys = [await running.key(f"k{number}", [f"call:a/a_{number}", "call:a/a_5"]) for number in range(4)]
        for _ in range(2):
            assert (await listed(running))[0] == expected
            for number, key in enumerate(keys):
                assert (await listed(running, key))[0] == [f"a_{number}", "a_5"]


async def test_a_list_without_a_tool_says_why_and_is_counted(running: RunningHub) -> None:
    async def reason(token: str | None = None) -> str:
        result = events(await running.modern("tools/list", token=token))[-1]["result"]
        headers = await running.session(token=token)
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        legacy = events(await running.http.post("/mcp", json=body, headers=headers))[-1]["result"]
        assert result["tools"] == legacy["tools"] == []
        assert result["_meta"][REASON] == legacy["_meta"][REASON]
        return str(result["_meta"][REASON])

    assert "No server is registered" in await reason()
    async with RawServer(modern_server([])) as bare, RawServer(modern_server(tools("a", 1))) as full:
        await running.register("bare", bare.url)
        assert await reason() == "No tools are offered by bare."
        await running.register("full", full.url)
        stranger = await running.key("stranger", ["models"])
        assert "This key allows nothing here" in await reason(stranger)
        assert "full" not in await reason(stranger)
        result = events(await running.modern("tools/list"))[-1]["result"]
        assert len(result["tools"]) == 1 and REASON not in result["_meta"]
    reader = await running.key("reader", ["admin:read"])
    metrics = (await running.http.get("/metrics", headers=running.bearer(reader))).text
    for word in ("no-servers", "nothing-offered", "no-grant"):
        assert f'entrepot_empty_lists_total{{reason="{word}"}}' in metrics


async def test_a_started_hub_lists_what_was_stored_with_every_server_down(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as before, RawServer(modern_server(tools("a", 30))) as a:
        await before.register("a", a.url)
        token = await before.key("stays", ["call"])
    async with running_hub(tmp_path) as running:
        assert len((await listed(running, token))[0]) == 30
        answer = events(await running.modern("tools/call", {"name": "a_1", "arguments": {}}, token=token))[-1]
        assert "error" in answer


async def test_the_first_call_waits_for_its_own_server_only(tmp_path: Path) -> None:
    async def silent(_one: Exchange) -> None:
        await asyncio.Event().wait()

    holes = [RawServer(modern_server(tools(f"hole{number}", 3))) for number in range(5)]
    async with running_hub(tmp_path) as before, RawServer(modern_server(tools("fine", 2))) as fine:
        for number, hole in enumerate(holes):
            await running_hole(before, f"hole{number}", hole)
        await before.register("fine", fine.url)
        token = await before.key("stays", ["call"])
        for hole in holes:
            hole.behaviour = silent
        async with running_hub(tmp_path) as running, asyncio.timeout(5):
            assert len((await listed(running, token))[0]) == 17
            answer = events(await running.modern("tools/call", CALL | {"name": "fine_1"}, token=token))[-1]
            assert answer["result"]["content"][0]["text"] == "done"
    for hole in holes:
        await hole.__aexit__()


async def running_hole(running: RunningHub, name: str, hole: RawServer) -> None:
    """Start a server and register it; it is ended by whoever started it."""
    await hole.__aenter__()
    await running.register(name, hole.url)
