"""Registering, changing and losing servers, as the snapshot and the database show it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import orjson
import pytest

from hub.catalog.manifest import CollectionSpec, Declaration, ServerSpec
from hub.catalog.models import ServerRow
from hub.catalog.service import THE_HUB
from hub.errors import Conflict, InvalidParams, NotFound, UpstreamDown
from hub.upstream.address import Address, Era
from tests.hub.catalog.scripted import ADMIN, Stage, offering, stage, tool

pytestmark = pytest.mark.anyio


@pytest.fixture
async def on(tmp_path: Path) -> AsyncGenerator[Stage]:
    async with stage(tmp_path) as made:
        yield made


def listed(stage: Stage, view: str = "", era: Era = "modern") -> list[str]:
    return [target.exposed for target in stage.snapshots.current.views[view].listed.get((era, "tool"), ())]


def at(name: str, **more: object) -> ServerSpec:
    return ServerSpec.model_validate({"name": name, "url": f"http://{name}.test/mcp"} | more)


async def test_adding_a_server_probes_it_and_shows_what_callers_will_see(on: Stage) -> None:
    on.world.servers["http://time.test/mcp"] = offering(tool("now"), eras=("modern", "legacy"))
    shown = await on.catalog.add(ADMIN, at("time"))
    assert shown["exposed"] == [{"kind": "tool", "name": "now", "exposed": "now"}]
    assert (shown["state"], shown["counts"]["tool"], shown["eras"]) == ("ready", 1, ["modern", "legacy"])
    assert listed(on) == listed(on, era="legacy") == listed(on, "s/time") == ["now"]
    assert on.world.told == 1


async def test_a_dry_run_shows_the_same_and_leaves_nothing(on: Stage) -> None:
    on.world.servers["http://time.test/mcp"] = offering(tool("now"))
    shown = await on.catalog.add(ADMIN, at("time"), dry_run=True)
    assert shown["exposed"] == [{"kind": "tool", "name": "now", "exposed": "now"}]
    assert on.catalog.list() == []
    tried = await on.catalog.add(ADMIN, ServerSpec(name="local", command=["hello"]), dry_run=True)
    assert tried["kind"] == "stdio"
    assert on.world.children == {}


async def test_a_server_that_does_not_answer_is_not_added(on: Stage) -> None:
    with pytest.raises(UpstreamDown):
        await on.catalog.add(ADMIN, at("gone"))
    assert on.catalog.list() == []


async def test_a_stdio_server_is_given_to_the_runner_and_taken_back_when_it_goes(on: Stage) -> None:
    spec = ServerSpec.model_validate({"name": "local", "command": ["hello", "--loud"], "env": {"KEY": "s3cret"}})
    await on.catalog.add(ADMIN, spec)
    child = on.world.children["local"]
    assert child["command"] == ["hello", "--loud"]
    assert child["env"]["KEY"] == "s3cret"
    assert child["sandbox"] == "server"
    assert on.snapshots.current.servers["local"].address.url == "http://runner/s/local/mcp"
    with on.database.session() as session:
        row = session.get(ServerRow, "local")
        assert row is not None and "s3cret" not in orjson.dumps(row.declared).decode()
    assert "s3cret" not in orjson.dumps(on.catalog.show("local")).decode()
    await on.catalog.remove(ADMIN, "local")
    assert on.world.children == {}
    with pytest.raises(NotFound):
        on.catalog.show("local")


async def test_collisions_prefix_all_holders_and_the_first_owner_keeps_its_bare_alias(on: Stage) -> None:
    on.world.servers["http://a.test/mcp"] = on.world.servers["http://b.test/mcp"] = offering(tool("search"))
    await on.catalog.add(ADMIN, at("a"))
    await on.catalog.add(ADMIN, at("b"))
    view = on.snapshots.current.views[""]
    assert listed(on) == ["a__search", "b__search"]
    bare = view.resolve("tool", "search")
    assert bare is not None and bare.server == "a"
    assert listed(on, "s/b") == ["search"]
    target = view.resolve("tool", "b__search")
    assert target is not None and orjson.loads(target.fragment)["name"] == "b__search"


async def test_a_name_stays_its_owners_after_removal_unless_it_is_released(on: Stage) -> None:
    on.world.servers["http://a.test/mcp"] = on.world.servers["http://b.test/mcp"] = offering(tool("search"))
    await on.catalog.add(ADMIN, at("a"))
    await on.catalog.remove(ADMIN, "a")
    await on.catalog.add(ADMIN, at("b"))
    assert listed(on) == ["b__search"]
    await on.catalog.add(ADMIN, at("a"))
    await on.catalog.remove(ADMIN, "a", release_names=True)
    assert listed(on) == ["search"]


async def test_a_server_that_went_down_keeps_its_last_good_list_and_says_why(on: Stage) -> None:
    on.world.servers["http://time.test/mcp"] = offering(tool("now"))
    await on.catalog.add(ADMIN, at("time"))
    del on.world.servers["http://time.test/mcp"]
    shown = await on.catalog.refresh(ADMIN, "time")
    assert (shown["state"], listed(on)) == ("down", ["now"])
    assert "does not answer" in shown["reason"]


async def test_a_refresh_publishes_and_describes_what_changed(on: Stage) -> None:
    on.world.servers["http://time.test/mcp"] = offering(tool("now"), tool("zone"))
    await on.catalog.add(ADMIN, at("time"))
    changes = on.snapshots.subscribe()
    on.world.servers["http://time.test/mcp"] = offering(tool("now", description="Something else."), tool("then"))
    shown = await on.catalog.refresh(THE_HUB, "time")
    with anyio.fail_after(5):
        change = await anext(changes)
    assert (change.servers, change.kinds) == ({"time"}, {"tool"})
    assert listed(on) == ["now", "then"]
    said = "\n".join(shown["changes"])
    assert "'then' is new" in said and "'zone' is gone" in said and 'description changed: "Does now."' in said


async def test_bad_definitions_are_left_out_with_a_reason_and_the_rest_is_served(on: Stage) -> None:
    on.world.servers["http://odd.test/mcp"] = offering(
        tool("fine"), tool("bad", inputSchema={"type": "array"}), b"{", tool("fine")
    )
    shown = await on.catalog.add(ADMIN, at("odd"))
    assert (shown["state"], len(shown["problems"]), listed(on)) == ("degraded", 3, ["fine"])


async def test_a_start_needs_no_server_at_all(on: Stage) -> None:
    on.world.servers["http://time.test/mcp"] = offering(tool("now"))
    await on.catalog.add(ADMIN, at("time", headers={"Authorization": "Bearer abc"}))
    on.world.servers.clear()
    looks = len(on.world.looks)
    catalog, snapshots = on.another_worker()
    await catalog.load()
    assert [target.exposed for target in snapshots.current.views[""].listed["modern", "tool"]] == ["now"]
    assert snapshots.current.servers["time"].address.headers == (("Authorization", "Bearer abc"),)
    assert snapshots.current.revision == on.snapshots.current.revision
    assert len(on.world.looks) == looks


async def test_apply_is_idempotent_and_its_dry_run_shows_the_difference(on: Stage) -> None:
    on.world.servers["http://a.test/mcp"] = offering(tool("x"))
    wanted = Declaration(
        servers=[at("a", headers={"X-Key": "1"})], collections=[CollectionSpec(name="c", members=["a"])]
    )
    planned = await on.catalog.apply(ADMIN, wanted, dry_run=True)
    assert [change["action"] for change in planned["changes"]] == ["create", "create"]
    assert planned["changes"][0]["diff"]["headers.X-Key"] == {"from": "", "to": "set"}
    assert on.catalog.list() == []
    assert (await on.catalog.apply(ADMIN, wanted))["applied"]
    revision = on.catalog.revision
    again = await on.catalog.apply(ADMIN, wanted)
    assert [change["action"] for change in again["changes"]] == ["none", "none"]
    assert on.catalog.revision == revision
    assert listed(on, "c/c") == ["x"]


async def test_apply_changes_nothing_when_one_server_fails(on: Stage) -> None:
    on.world.servers["http://a.test/mcp"] = offering(tool("x"))
    wanted = Declaration(servers=[at("a"), ServerSpec(name="local", command=["hello"]), at("gone")])
    with pytest.raises(UpstreamDown, match="gone: "):
        await on.catalog.apply(ADMIN, wanted)
    assert on.catalog.list() == []
    assert on.world.children == {}


async def test_a_changed_declaration_is_probed_and_replaces_the_old_one(on: Stage) -> None:
    on.world.servers |= {"http://a.test/mcp": offering(tool("x")), "http://new.test/mcp": offering(tool("y"))}
    await on.catalog.add(ADMIN, at("a"))
    before = on.snapshots.current.servers["a"].digest
    await on.catalog.change(ADMIN, ServerSpec(name="a", url="http://new.test/mcp"))
    assert listed(on) == ["y"]
    assert on.snapshots.current.servers["a"].digest != before


async def test_names_are_taken_once_and_the_hubs_own_are_reserved(on: Stage) -> None:
    on.world.servers["http://a.test/mcp"] = offering(tool("x"))
    await on.catalog.add(ADMIN, at("a"))
    with pytest.raises(Conflict):
        await on.catalog.add(ADMIN, at("a"))
    with pytest.raises(InvalidParams):
        await on.catalog.add(ADMIN, at("try-it"))
    with pytest.raises(Conflict):
        await on.catalog.register_internal("a", Address("http://runner/s/a/mcp"))


async def test_the_hubs_own_servers_are_looked_at_later_and_not_removed_by_people(on: Stage) -> None:
    on.world.servers["http://agents/mcp"] = offering(tool("librarian"))
    await on.catalog.register_internal("agents", Address("http://agents/mcp", socket="/run/agents.sock"))
    assert on.catalog.show("agents")["state"] == "new"
    await on.catalog.refresh(THE_HUB, "agents")
    server = on.snapshots.current.servers["agents"]
    assert (server.internal, server.address.socket, listed(on)) == (True, "/run/agents.sock", ["librarian"])
    revision = on.catalog.revision
    await on.catalog.register_internal("agents", Address("http://agents/mcp", socket="/run/agents.sock"))
    assert on.catalog.revision == revision
    with pytest.raises(Conflict):
        await on.catalog.remove(ADMIN, "agents")


async def test_two_workers_agree_after_either_wrote(on: Stage) -> None:
    on.world.servers |= {"http://a.test/mcp": offering(tool("x")), "http://b.test/mcp": offering(tool("x"))}
    other, snapshots = on.another_worker()
    await other.load()
    await on.catalog.add(ADMIN, at("a"))
    await other.load()
    await other.add(ADMIN, at("b"))
    await on.catalog.load()
    assert listed(on) == [target.exposed for target in snapshots.current.views[""].listed["modern", "tool"]]
    assert on.snapshots.current.revision == snapshots.current.revision


async def test_an_api_that_describes_itself_becomes_a_child_whose_secrets_are_not_in_its_command(on: Stage) -> None:
    spec = ServerSpec.model_validate(
        {"name": "api", "openapi": "https://api.test/openapi.json?key=hidden", "headers": {"Authorization": "Bearer x"}}
    )
    shown = await on.catalog.add(ADMIN, spec)
    assert (shown["kind"], shown["address"]) == ("openapi", "https://api.test/openapi.json?…")
    child = on.world.children["api"]
    assert (child["kind"], child["sandbox"], child["command"][1:]) == ("http", "server", ["-m", "servers.openapi"])
    assert child["env"]["ENTREPOT_OPENAPI_HEADERS"] == '{"Authorization":"Bearer x"}'
    await on.catalog.remove(ADMIN, "api")
    assert on.world.children == {}
