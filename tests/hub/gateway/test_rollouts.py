"""Two versions of one server behind one name: who gets which, what is counted, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.catalog.canary import Bounds, CanaryChange, CanarySpec, takes
from hub.catalog.manifest import ServerSpec
from hub.catalog.rollouts import verdict
from hub.catalog.snapshot import Canary, Server
from hub.errors import Conflict, NotFound
from hub.identity.principal import LOCAL_ADMINISTRATOR, Principal
from hub.telemetry.figures import Figures, Summary
from hub.upstream.address import Address
from tests.support.hub import META, Era, RunningHub, events, running_hub
from tests.support.versions import Version, running

pytestmark = pytest.mark.anyio


@dataclass
class Stage:
    """A hub with version `one` of the server `search`, and version `two` beside it."""

    hub: RunningHub
    one: Version
    two: Version
    urls: dict[str, str]

    async def canary(self, **rules: Any) -> dict[str, Any]:
        spec = CanarySpec.model_validate({"url": self.urls["two"], "version": "2"} | rules)
        return await self.hub.hub.rollouts.start(LOCAL_ADMINISTRATOR, "search", spec)

    async def ends(self, outcome: str) -> dict[str, Any]:
        """Wait for the roll-out's end, as the hub brings it about by itself."""
        async with asyncio.timeout(20):
            while (told := self.hub.hub.rollouts.show("search"))["canary"] is not None:
                await asyncio.sleep(0.05)
        assert told["last"]["outcome"] == outcome
        return told["last"]

    async def called(self, token: str | None = None, text: str = "hi", **more: Any) -> str:
        """Which version answered; the error's message where one did."""
        params = {"name": "echo", "arguments": {"text": text}}
        message = events(await self.hub.modern("tools/call", params, token=token, **more))[-1]
        if "error" in message:
            return str(message["error"]["message"])
        return str(message["result"]["structuredContent"]["server"])

    async def listed(self, token: str | None = None, path: str = "/mcp", **more: Any) -> set[str]:
        message = events(await self.hub.modern("tools/list", token=token, path=path, **more))[-1]
        return {tool["name"] for tool in message["result"]["tools"]}


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Stage]:
    one, two = Version("one"), Version("two", more=True)
    async with AsyncExitStack() as stack:
        urls = {version.name: await stack.enter_async_context(running(version)) for version in (one, two)}
        hub = await stack.enter_async_context(running_hub(tmp_path))
        spec = ServerSpec(name="search", url=urls["one"], version="1")
        await hub.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)
        yield Stage(hub, one, two, urls)


def canary_of(**rules: Any) -> Canary:
    server = Server("search", Address("http://x/"), "", frozenset(), {}, {})
    whole: dict[str, Any] = {"share": 0, "groups": frozenset(), "clients": (), "headers": (), "salt": "s"}
    return Canary(server, **(whole | rules), parts={}, aliases=())


def test_a_share_is_that_many_callers_and_always_the_same_ones() -> None:
    callers = [Principal(f"key:{number}", "", "service") for number in range(4_000)]
    for share in (1, 10, 50, 100):
        chosen = [one for one in callers if takes(canary_of(share=share), one, "", (), "search")]
        # Four standard deviations of a fair draw.
        spread = 4 * (4_000 * share / 100 * (1 - share / 100)) ** 0.5
        assert abs(len(chosen) - 40 * share) <= spread
        assert chosen == [one for one in callers if takes(canary_of(share=share), one, "", (), "search")]
    small = {one.subject for one in callers if takes(canary_of(share=10), one, "", (), "search")}
    large = {one.subject for one in callers if takes(canary_of(share=20), one, "", (), "search")}
    other = {one.subject for one in callers if takes(canary_of(share=10, salt="t"), one, "", (), "search")}
    assert small < large
    assert len(small & other) < len(small) / 5


def test_a_run_is_on_the_side_of_the_one_it_acts_for() -> None:
    for number in range(50):
        owner = Principal(f"key:{number}", "", "service")
        run = Principal("run:x", "", "run", on_behalf_of=owner.subject)
        rules = canary_of(share=50)
        assert takes(rules, owner, "", (), "search") == takes(rules, run, "", (), "search")


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_callers_lists_and_calls_are_of_one_version(stage: Stage, era: Era) -> None:
    await stage.canary(share=50)
    seen: set[str] = set()
    for number in range(12):
        token = await stage.hub.key(f"k{number}", ["call"])
        async with stage.hub.connect(era, token=token) as client:
            for _ in range(2):
                extra = "test_added_tool" in {tool.name for tool in (await client.list_tools()).tools}
                answered = (await client.call_tool("echo", {"text": "hi"})).structured_content
                assert answered == {"text": "hi", "server": "two" if extra else "one"}
                seen.add("two" if extra else "one")
    assert seen == {"one", "two"}


async def test_a_team_a_client_or_a_header_chooses_the_version_on_every_endpoint(stage: Stage) -> None:
    await stage.canary(groups=["beta"], clients=["claude-*"], when={"X-Canary": "yes"})
    _, beta = await stage.hub.hub.keys.create("b", ["call"], teams=["beta"])
    assert await stage.called() == "one"
    assert await stage.called(beta) == "two"
    assert await stage.called(meta={f"{META}clientInfo": {"name": "claude-code", "version": "1"}}) == "two"
    assert await stage.called(meta={f"{META}clientInfo": {"name": "cursor", "version": "1"}}) == "one"
    assert await stage.called(headers={"x-canary": "yes"}) == "two"
    assert await stage.called(headers={"x-canary": "no"}) == "one"
    for path in ("/mcp", "/mcp/s/search"):
        assert "test_added_tool" in await stage.listed(beta, path)
        assert "test_added_tool" not in await stage.listed(path=path)
    unknown = events(await stage.hub.modern("tools/call", {"name": "test_added_tool"}))[-1]
    assert unknown["error"]["code"] == -32602


async def test_a_canarys_own_tools_rename_nobody_elses(stage: Stage) -> None:
    other = await stage.hub.everything("other")
    other.server.extra_tool = True
    await stage.hub.refresh("other")
    assert "test_added_tool" in await stage.listed()
    await stage.canary(share=100)
    assert {"test_added_tool", "search__test_added_tool"} <= await stage.listed()
    await stage.hub.hub.rollouts.roll_back(LOCAL_ADMINISTRATOR, "search")
    assert "search__test_added_tool" not in await stage.listed()


async def test_each_side_finds_its_own_tools_in_one_index(stage: Stage) -> None:
    await stage.canary(when={"x-canary": "yes"})
    finder = stage.hub.hub.finder

    async def found(**more: Any) -> set[str]:
        params = {"name": "find_tools", "arguments": {"query": "comes and goes", "limit": 20}}
        message = events(await stage.hub.modern("tools/call", params, path="/mcp?mode=search", **more))[-1]
        return {one["name"] for one in message["result"]["structuredContent"]["tools"]}

    assert "test_added_tool" not in await found()
    assert finder.index is not None
    read = finder.index.documents
    assert "test_added_tool" in await found(headers={"x-canary": "yes"})
    assert "test_added_tool" not in await found()
    # Vectors may have come meanwhile, but nothing was read anew.
    assert finder.index.documents is read
    await stage.hub.hub.rollouts.roll_back(LOCAL_ADMINISTRATOR, "search")
    assert "test_added_tool" not in await found(headers={"x-canary": "yes"})


async def test_a_failing_version_is_rolled_back_by_itself_and_everybody_is_told_why(stage: Stage) -> None:
    await stage.canary(when={"x-canary": "yes"}, bounds={"calls": 10, "error_rate": 20})
    stage.two.failing = True
    for _ in range(9):
        assert await stage.called() == "one"
        assert await stage.called(headers={"x-canary": "yes"}) == "This version is broken"
    await stage.hub.hub.rollouts.judge()
    assert stage.hub.hub.rollouts.show("search")["canary"]["figures"]["errors"] == 9
    await stage.called(headers={"x-canary": "yes"})
    last = await stage.ends("rolled-back")
    assert "10 of 10 calls failed (100.0 %, of the stable version 0.0 %); the bound is 20 %" in last["reason"]
    assert (last["canary"]["error_rate"], last["stable"]["error_rate"]) == (100, 0)
    assert await stage.called(headers={"x-canary": "yes"}) == "one"
    lines = "".join(path.read_text() for path in stage.hub.hub.audit.folder.glob("*.jsonl"))
    assert '"event":"server:rollback","subject":"service:hub"' in lines
    assert "10 of 10 calls failed" in lines


async def test_a_slow_version_is_rolled_back_by_itself(stage: Stage) -> None:
    await stage.canary(when={"x-canary": "yes"}, bounds={"calls": 5, "latency": 3})
    stage.two.slow = 0.2
    for _ in range(20):
        await stage.called()
    await asyncio.gather(*(stage.called(headers={"x-canary": "yes"}) for _ in range(5)))
    assert "its 95th percentile is" in (await stage.ends("rolled-back"))["reason"]


async def test_a_callers_own_mistakes_count_against_no_version(stage: Stage) -> None:
    await stage.canary(share=100)
    for _ in range(3):
        await stage.hub.modern("resources/read", {"uri": "test://nothing/at/all"})
    figures = stage.hub.hub.rollouts.show("search")["canary"]["figures"]
    assert (figures["calls"], figures["errors"]) == (3, 0)


async def test_a_promoted_version_is_everybodys_and_the_old_one_ends_in_peace(stage: Stage) -> None:
    await stage.canary(share=0)
    held = asyncio.create_task(stage.called(text="hold"))
    async with asyncio.timeout(20):
        await stage.one.held.wait()
        await stage.hub.hub.rollouts.promote(LOCAL_ADMINISTRATOR, "search")
        assert await stage.called() == "two"
        assert "test_added_tool" in await stage.listed()
        while not stage.hub.hub.pool.draining:
            await asyncio.sleep(0.01)
        assert stage.one.running == 1
        stage.one.release.set()
        assert await held == "one"
        while stage.hub.hub.pool.draining:
            await asyncio.sleep(0.05)
    told = stage.hub.hub.rollouts.show("search")
    assert (told["stable"]["version"], told["canary"], told["last"]["outcome"]) == ("2", None, "promoted")
    assert told["stable"]["address"] == stage.urls["two"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_no_call_fails_while_versions_come_and_go_under_load(stage: Stage, era: Era) -> None:
    stop, answers = asyncio.Event(), dict[str, int]()

    async def load() -> None:
        async with stage.hub.connect(era, token=await stage.hub.key("load", ["call"])) as client:
            while not stop.is_set():
                answered = await client.call_tool("echo", {"text": "hi"})
                assert not answered.is_error
                content: Any = answered.structured_content
                answers[content["server"]] = answers.get(content["server"], 0) + 1

    rollouts = stage.hub.hub.rollouts
    tasks = [asyncio.create_task(load()) for _ in range(4)]

    async def some(many: int) -> None:
        wanted = sum(answers.values()) + many
        while sum(answers.values()) < wanted:
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.01)

    async with asyncio.timeout(50):
        await some(20)
        for _ in range(2):
            await stage.canary(share=50, bounds={"latency": None})
            await some(20)
            await rollouts.change(LOCAL_ADMINISTRATOR, "search", CanaryChange(share=100))
            await some(20)
            await rollouts.roll_back(LOCAL_ADMINISTRATOR, "search")
            await some(10)
        await stage.canary(share=50)
        await some(20)
        await rollouts.promote(LOCAL_ADMINISTRATOR, "search")
        before = answers.get("one", 0)
        await some(40)
        assert answers["one"] - before <= len(tasks)
        stop.set()
        await asyncio.gather(*tasks)
    assert answers["two"] > 60


async def test_a_server_that_is_removed_under_way_finishes_what_it_began(stage: Stage) -> None:
    held = asyncio.create_task(stage.called(text="hold"))
    async with asyncio.timeout(20):
        await stage.one.held.wait()
        await stage.hub.hub.catalog.remove(LOCAL_ADMINISTRATOR, "search")
        assert "Unknown tool" in await stage.called()
        stage.one.release.set()
        assert await held == "one"


async def test_one_roll_out_at_a_time_and_none_without_a_server(stage: Stage) -> None:
    rollouts = stage.hub.hub.rollouts
    with pytest.raises(NotFound):
        await rollouts.promote(LOCAL_ADMINISTRATOR, "search")
    await stage.canary()
    with pytest.raises(Conflict):
        await stage.canary()
    with pytest.raises(NotFound):
        await rollouts.start(LOCAL_ADMINISTRATOR, "absent", CanarySpec(url=stage.urls["two"]))
    # The version is no server of its own.
    names = [row["name"] for row in stage.hub.hub.catalog.list()]
    assert names == ["search"]
    with pytest.raises(NotFound):
        await stage.hub.hub.catalog.remove(LOCAL_ADMINISTRATOR, "search.2")


async def test_a_roll_out_survives_a_restart_and_is_the_same_on_every_worker(stage: Stage) -> None:
    await stage.canary(share=40)
    tokens = [await stage.hub.key(f"k{number}", ["call"]) for number in range(10)]
    before = [await stage.called(token) for token in tokens]
    await stage.hub.hub.catalog.load()
    assert [await stage.called(token) for token in tokens] == before


async def test_it_can_be_declared_and_declared_away(stage: Stage) -> None:
    transport = httpx.ASGITransport(stage.hub.hub.local)
    server = {"name": "search", "url": stage.urls["one"], "version": "1"}
    declared: dict[str, Any] = {
        "servers": [server | {"canary": {"url": stage.urls["two"], "version": "2", "share": 100}}]
    }
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/v1", timeout=30) as client:
        dry = (await client.post("/apply?dry_run=true", json=declared)).json()
        assert [change["action"] for change in dry["changes"]] == ["none", "create"]
        assert await stage.called() == "one"
        assert (await client.post("/apply", json=declared)).status_code == 200
        assert await stage.called() == "two"
        again = (await client.post("/apply", json=declared)).json()
        assert [change["action"] for change in again["changes"]] == ["none", "none"]
        declared["servers"][0]["canary"]["share"] = 0
        changed = (await client.post("/apply", json=declared)).json()["changes"][1]
        assert (changed["action"], changed["diff"]) == ("update", {"share": {"from": 100, "to": 0}})
        assert await stage.called() == "one"
        # What a file does not name stays as it is.
        assert (await client.post("/apply", json={"servers": [server]})).status_code == 200
        shown = (await client.get("/servers/search/rollout")).json()
        assert shown["canary"]["version"] == "2"
        assert (await client.get("/servers/search")).json()["canary"] == "search.2"


async def test_figures_are_kept_by_version_for_prometheus_too(stage: Stage) -> None:
    await stage.canary(when={"x-canary": "yes"})
    stage.two.failing = True
    await stage.called()
    await stage.called(headers={"x-canary": "yes"})
    told = (await stage.hub.http.get("/metrics")).text
    assert 'entrepot_calls_total{outcome="ok",server="search",version="1"} 1.0' in told
    assert 'entrepot_calls_total{outcome="error -32603",server="search",version="2"} 1.0' in told
    assert 'entrepot_call_seconds_count{server="search",version="2"} 1.0' in told


def test_the_figures_of_all_workers_are_added_up() -> None:
    moment = [1000.0]
    here, there = Figures(lambda: moment[0]), Figures(lambda: moment[0])
    for place in range(10):
        here.record("s", 0.004, failed=False)
        there.record("s", 0.2, failed=place < 5)
    here.heard(there.untold())
    summary = here.summary("s", 60)
    assert (summary.calls, summary.errors, summary.rate) == (20, 5, 25)
    assert 0.1 < summary.p95 <= 0.25
    assert there.untold() == {}
    moment[0] += 61
    assert here.summary("s", 60).calls == 0


@pytest.mark.parametrize(
    ("canary", "stable", "told"),
    [
        (Summary(49, 49, 1, 1), Summary(1000, 0, 1, 1), ""),
        (Summary(50, 3, 1, 1), Summary(1000, 0, 1, 1), "3 of 50 calls failed"),
        (Summary(50, 10, 1, 1), Summary(1000, 300, 1, 1), ""),
        (Summary(50, 0, 1, 3.1), Summary(1000, 0, 1, 1), "95th percentile"),
        (Summary(50, 0, 1, 3.1), Summary(19, 0, 1, 1), ""),
        (Summary(50, 0, 1, 2.9), Summary(1000, 0, 1, 1), ""),
    ],
)
def test_a_version_is_judged_by_what_it_did_and_by_what_the_other_did(
    canary: Summary, stable: Summary, told: str
) -> None:
    assert told in verdict(Bounds(), canary, stable)
    assert bool(told) == bool(verdict(Bounds(), canary, stable))


async def test_the_least_loaded_replica_is_called_and_a_dead_one_is_passed_over(tmp_path: Path) -> None:
    versions = [Version("one"), Version("two"), Version("three")]
    async with AsyncExitStack() as stack:
        stacks = [await stack.enter_async_context(AsyncExitStack()) for _ in versions]
        urls = [await one.enter_async_context(running(version)) for one, version in zip(stacks, versions, strict=True)]
        hub = await stack.enter_async_context(running_hub(tmp_path))
        spec = ServerSpec(name="search", url=urls[0], replicas=urls[1:])
        await hub.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)
        on = Stage(hub, versions[0], versions[1], {})
        async with asyncio.timeout(30):
            held = [asyncio.create_task(on.called(text="hold")) for _ in range(6)]
            while sum(version.running for version in versions) < 6:
                await asyncio.sleep(0.01)
            assert [version.running for version in versions] == [2, 2, 2]
            versions[0].release.set()
            while versions[0].running:
                await asyncio.sleep(0.01)
            assert {await on.called() for _ in range(6)} == {"one"}
            for version in versions:
                version.release.set()
            assert sorted(await asyncio.gather(*held)) == ["one", "one", "three", "three", "two", "two"]
            await stacks[0].aclose()
            assert {await on.called() for _ in range(20)} == {"two", "three"}


async def test_a_session_stays_at_the_replica_that_opened_it_and_moves_when_that_dies(tmp_path: Path) -> None:
    versions = [Version("one"), Version("two")]
    async with AsyncExitStack() as stack:
        stacks = [await stack.enter_async_context(AsyncExitStack()) for _ in versions]
        urls = [await one.enter_async_context(running(version)) for one, version in zip(stacks, versions, strict=True)]
        hub = await stack.enter_async_context(running_hub(tmp_path))
        spec = ServerSpec(name="search", url=urls[0], replicas=urls[1:], era="legacy")
        await hub.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)

        async def who(client: Any) -> str:
            return str((await client.call_tool("echo", {"text": "hi"})).structured_content["server"])

        async with asyncio.timeout(40), AsyncExitStack() as clients:
            opened = [await clients.enter_async_context(hub.connect("legacy")) for _ in range(4)]
            first = [await who(client) for client in opened]
            assert set(first) == {"one", "two"}
            for _ in range(5):
                assert [await who(client) for client in opened] == first
            await stacks[0].aclose()
            assert [await who(client) for client in opened] == ["two"] * 4


async def test_an_unfinished_thing_is_continued_at_the_replica_that_began_it(tmp_path: Path) -> None:
    versions = [Version("one"), Version("two"), Version("three")]
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(running(version)) for version in versions]
        hub = await stack.enter_async_context(running_hub(tmp_path))
        spec = ServerSpec(name="search", url=urls[0], replicas=urls[1:], era="modern")
        await hub.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)
        name = "test_input_required_result_request_state"
        meta: dict[str, Any] = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}
        for _ in range(6):
            asked = events(await hub.modern("tools/call", {"name": name}, meta=meta))[-1]["result"]
            assert asked["resultType"] == "input_required"
            key = next(iter(asked["inputRequests"]))
            answer = {key: {"action": "accept", "content": {"ok": True, "confirm": True}}}
            again = {"name": name, "inputResponses": answer, "requestState": asked["requestState"]}
            done = events(await hub.modern("tools/call", again, meta=meta))[-1]
            # Each replica seals its state with a key of its own, so another one would refuse it.
            assert done["result"]["resultType"] == "complete", done
