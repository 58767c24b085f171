"""Ill servers among healthy ones: lists go on from the last good catalog, and the ill are marked with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.catalog.manifest import ServerSpec
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.hub import RunningHub, events, running_hub
from tests.support.upstreams import Exchange, RawServer
from tests.wire.test_deadlines import STREAM, silent
from tests.wire.test_servers_that_fail import CALL, ECHO, TOOL, acting

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]

QUICK: dict[str, Any] = {
    "health": {"active": {"interval": 0.3, "timeout": 0.5, "fails": 2, "passes": 1}},
    "deadlines": {"connect": 1, "list": 2, "call": 2},
}


async def until(holds: Callable[[], bool], what: str) -> None:
    """Look again until it holds."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.05)
    assert holds(), what


async def fine(one: Exchange) -> None:
    await one.answer({"resultType": "complete", "content": []})


async def drips(one: Exchange) -> None:
    await one.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        await one.send(b" ")
        await asyncio.sleep(0.05)


async def crashes(one: Exchange) -> None:
    one.reset()


async def register(running: RunningHub, name: str, server: RawServer) -> None:
    spec = ServerSpec.model_validate({"name": name, "url": server.url} | QUICK)
    await running.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)


async def listed(running: RunningHub) -> set[str]:
    return {tool["name"] for tool in events(await running.modern("tools/list"))[-1]["result"]["tools"]}


async def test_ill_servers_are_marked_with_the_reason_while_lists_and_the_healthy_go_on(tmp_path: Path) -> None:
    ill = {"holes": silent, "drips": drips, "crashes": crashes}
    async with running_hub(tmp_path) as running, RawServer(acting(fine)) as one, RawServer(acting(fine)) as two:
        await running.everything("good")
        async with RawServer(acting(fine)) as three:
            servers = dict(zip(ill, (one, two, three), strict=True))
            for name, server in servers.items():
                await register(running, name, server)
            before = await listed(running)
            catalog = running.hub.catalog
            for name, server in servers.items():
                server.behaviour = ill[name]
            await until(lambda: all(catalog.state(name) == "degraded" for name in ill), "all are marked")
            assert all(catalog.show(name)["reason"] for name in ill)
            assert "does not answer a check within 0.5 s" in catalog.show("holes")["reason"]
            assert catalog.state("good") == "ready"
            assert await listed(running) == before
            assert "result" in events(await running.modern("tools/call", ECHO))[-1]
            for server in servers.values():
                server.behaviour = acting(fine)
            await until(lambda: all(catalog.state(name) == "ready" for name in ill), "all are well by themselves")


async def test_a_schema_that_is_none_is_held_back_and_the_rest_is_served(tmp_path: Path) -> None:
    bad = {"name": "broken", "inputSchema": {"type": "no such type", "properties": 5}}

    async def behave(one: Exchange) -> None:
        if one.message.get("method") != "tools/list":
            await acting(fine)(one)
            return
        told: dict[str, Any] = {"resultType": "complete", "tools": [bad, TOOL], "ttlMs": 0, "cacheScope": "private"}
        await one.answer(told)

    async with running_hub(tmp_path) as running, RawServer(behave) as server:
        await register(running, "schemas", server)
        shown = running.hub.catalog.show("schemas")
        assert shown["state"] == "degraded"
        assert "'broken'" in shown["reason"]
        assert await listed(running) == {"act"}


async def test_what_callers_meet_opens_the_breaker_and_is_shown_with_its_reason(tmp_path: Path) -> None:
    spec = {"health": {"active": {"interval": 0}, "passive": {"failures": 2, "pause": 60}}}
    async with running_hub(tmp_path) as running, RawServer(acting(crashes)) as server:
        declared = ServerSpec.model_validate({"name": "fails", "url": server.url} | spec)
        await running.hub.catalog.add(LOCAL_ADMINISTRATOR, declared)
        codes = [events(await running.modern("tools/call", CALL))[-1]["error"]["data"]["code"] for _ in range(3)]
        assert codes == ["outcome-unknown", "outcome-unknown", "server-down"]
        vitals = running.hub.pool.vitals("fails")
        assert vitals is not None
        assert (vitals.breaker, vitals.failures, vitals.opened) == ("open", 2, 1)
        assert vitals.retry_after > 50
        catalog = running.hub.catalog
        await until(lambda: catalog.state("fails") == "degraded", "it is marked")
        assert "Calls to it fail: Server 'fails': The connection" in catalog.show("fails")["reason"]


async def test_a_server_with_as_many_calls_as_it_may_have_refuses_more_and_the_others_do_not_wait(
    tmp_path: Path,
) -> None:
    begun = asyncio.Event()

    async def holds(one: Exchange) -> None:
        await one.send(STREAM)
        begun.set()
        await asyncio.Event().wait()

    spec = {"concurrency": {"calls": 1, "queue": 1, "wait": 0.2}, "health": {"active": {"interval": 0}}}
    async with running_hub(tmp_path) as running, RawServer(acting(holds)) as server:
        await running.everything("good")
        declared = ServerSpec.model_validate({"name": "narrow", "url": server.url} | spec)
        await running.hub.catalog.add(LOCAL_ADMINISTRATOR, declared)
        first = asyncio.create_task(running.modern("tools/call", CALL))
        await begun.wait()
        refused = await asyncio.gather(*(running.modern("tools/call", CALL) for _ in range(3)))
        data = [events(answer)[-1]["error"]["data"] for answer in refused]
        assert {(one["code"], one["effect"]) for one in data} == {("server-busy", "none")}
        assert all(one["retryAfter"] > 0 for one in data)
        assert "result" in events(await running.modern("tools/call", ECHO))[-1]
        first.cancel()
