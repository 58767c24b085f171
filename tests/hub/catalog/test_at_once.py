"""Changes that meet: a look in flight, two people with one name, two workers, and a runner that is away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from hub.catalog import children
from hub.catalog.manifest import Declaration, ServerSpec
from hub.catalog.models import ServerRow
from hub.catalog.service import PROBES_AT_ONCE, THE_HUB, Catalog
from hub.errors import Conflict, HubError, NotFound
from hub.upstream.address import Address, Survey, Wanted
from tests.hub.catalog.scripted import ADMIN, Stage, offering, stage, tool

pytestmark = pytest.mark.anyio

OLD, NEW, CHILD = "http://old.test/mcp", "http://new.test/mcp", "http://runner/s/local/mcp"


@pytest.fixture
async def on(tmp_path: Path) -> AsyncGenerator[Stage]:
    async with stage(tmp_path) as made:
        with anyio.fail_after(30):
            yield made


def listed(on: Stage) -> list[str]:
    return [target.exposed for target in on.snapshots.current.views[""].listed.get(("modern", "tool"), ())]


def local(*words: str) -> ServerSpec:
    return ServerSpec(name="local", command=["hello", *words])


async def refused(catalog: Catalog, spec: ServerSpec, into: list[HubError]) -> None:
    try:
        await catalog.add(ADMIN, spec)
    except HubError as error:
        into.append(error)


# A look in flight


async def test_a_look_in_flight_does_not_undo_a_new_declaration(on: Stage) -> None:
    on.world.servers |= {OLD: offering(tool("before")), NEW: offering(tool("after"))}
    await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    on.world.servers[OLD] = offering(tool("outdated"))
    gate = on.world.hold(OLD)
    async with anyio.create_task_group() as group:
        group.start_soon(on.catalog.refresh, THE_HUB, "time")
        await gate.reached.wait()
        await on.catalog.apply(ADMIN, Declaration(servers=[ServerSpec(name="time", url=NEW)]))
        gate.open.set()
    assert on.catalog.show("time")["address"] == NEW
    assert on.snapshots.current.servers["time"].address.url == NEW
    assert listed(on) == ["after"]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_look_in_flight_does_not_bring_back_what_was_removed(on: Stage, answers: bool) -> None:
    on.world.servers[OLD] = offering(tool("now"))
    await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    on.world.servers = {OLD: offering(tool("now"), tool("then"))} if answers else {}
    gate = on.world.hold(OLD)
    failures: list[HubError] = []

    async def refresh() -> None:
        try:
            await on.catalog.refresh(THE_HUB, "time")
        except HubError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(refresh)
        await gate.reached.wait()
        await on.catalog.remove(ADMIN, "time")
        gate.open.set()
    assert [type(error) for error in failures] == [NotFound]
    assert (on.catalog.list(), listed(on)) == ([], [])


async def test_a_look_in_flight_does_not_give_a_removed_server_its_child_back(on: Stage) -> None:
    await on.catalog.add(ADMIN, local())
    other, _ = on.another_worker()
    await other.load()
    await on.catalog.remove(ADMIN, "local")
    with pytest.raises(NotFound):
        await other.refresh(THE_HUB, "local")
    assert on.world.children == {}


async def test_of_two_looks_the_later_one_counts(on: Stage) -> None:
    on.world.servers[OLD] = offering(tool("first"))
    await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    gate = on.world.hold(OLD)
    async with anyio.create_task_group() as group:
        group.start_soon(on.catalog.refresh, THE_HUB, "time")
        await gate.reached.wait()
        on.world.servers[OLD] = offering(tool("second"))
        await on.catalog.refresh(THE_HUB, "time")
        gate.open.set()
    assert listed(on) == ["second"]


async def test_a_look_that_finds_nothing_new_is_not_a_change(on: Stage) -> None:
    on.world.servers[OLD] = offering(tool("now"), prompt=(b'{"name": "ask"}',), eras=("modern", "legacy"))
    await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    revision, told, before = on.catalog.revision, on.world.told, on.catalog.show("time")
    shown = await on.catalog.refresh(THE_HUB, "time")
    assert (on.catalog.revision, on.world.told) == (revision, told)
    assert shown["discovered"] > before["discovered"]
    other, _ = on.another_worker()
    await other.load()
    assert other.show("time") == shown


async def test_what_callers_found_of_a_server_is_noted_once(on: Stage) -> None:
    on.world.servers[OLD] = offering(tool("now"))
    await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    assert await on.catalog.mark("time", "down", "It hung up.")
    assert not await on.catalog.mark("time", "down", "It hung up.")
    revision = on.catalog.revision
    assert not await on.catalog.mark("time", "down", "Another check says it in other words.")
    assert on.catalog.revision == revision
    shown = on.catalog.show("time")
    assert (shown["state"], shown["reason"], listed(on)) == ("down", "It hung up.", ["now"])
    assert (await on.catalog.refresh(THE_HUB, "time"))["state"] == "ready"
    with pytest.raises(NotFound):
        await on.catalog.mark("gone", "down", "")


# One name


@pytest.mark.parametrize("same_worker", [True, False])
async def test_of_two_who_add_one_name_the_first_gets_it_with_its_own_command(on: Stage, same_worker: bool) -> None:
    other = on.catalog if same_worker else on.another_worker()[0]
    await other.load()
    gate = on.world.hold(CHILD)
    failures: list[HubError] = []
    async with anyio.create_task_group() as group:
        group.start_soon(on.catalog.add, ADMIN, local("first"))
        await gate.reached.wait()
        await refused(other, local("second"), failures)
        gate.open.set()
    assert [type(error) for error in failures] == [Conflict]
    assert on.world.children["local"]["command"] == ["hello", "first"]
    assert list(on.world.children) == ["local"]


async def test_a_name_that_was_declared_while_it_was_added_keeps_its_declared_command(on: Stage) -> None:
    other, _ = on.another_worker()
    await other.load()
    gate = on.world.hold(CHILD)
    failures: list[HubError] = []
    async with anyio.create_task_group() as group:
        group.start_soon(refused, on.catalog, local("added"), failures)
        await gate.reached.wait()
        await other.apply(ADMIN, Declaration(servers=[local("declared")]))
        gate.open.set()
    assert [type(error) for error in failures] == [Conflict]
    assert on.world.children["local"]["command"] == ["hello", "declared"]


async def test_two_workers_do_not_add_one_name_twice(on: Stage) -> None:
    on.world.servers |= {OLD: offering(tool("x")), NEW: offering(tool("y"))}
    other, _ = on.another_worker()
    await other.load()
    await other.add(ADMIN, ServerSpec(name="time", url=NEW))
    with pytest.raises(Conflict):
        await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    await on.catalog.load()
    assert on.catalog.show("time")["address"] == NEW


async def test_a_worker_that_another_one_could_not_tell_notices(on: Stage) -> None:
    on.world.servers[OLD] = offering(tool("x"))
    other, _ = on.another_worker()
    await other.load()
    assert not await other.stale()
    await on.catalog.add(ADMIN, ServerSpec(name="time", url=OLD))
    assert (await other.stale(), await on.catalog.stale()) == (True, False)
    await other.load()
    assert not await other.stale()


async def test_nobody_is_stale_while_the_database_is_away(on: Stage) -> None:
    with on.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE setting RENAME TO gone")
    assert not await on.catalog.stale()


# A runner that is away


async def test_a_removal_is_whole_though_the_runner_is_away(on: Stage) -> None:
    await on.catalog.add(ADMIN, local())
    on.world.runner_is_away = True
    await on.catalog.remove(ADMIN, "local")
    await on.catalog.reconcile()
    assert (on.catalog.list(), list(on.world.children)) == ([], ["local"])
    on.world.runner_is_away = False
    await on.catalog.reconcile()
    await on.catalog.reconcile()
    assert on.world.children == {}


async def test_a_change_is_whole_though_the_runner_goes_away(on: Stage) -> None:
    on.world.servers[NEW] = offering(tool("x"))
    await on.catalog.add(ADMIN, local())
    on.world.refused.add("local")
    applied = await on.catalog.apply(ADMIN, Declaration(servers=[local("louder")]))
    assert applied["applied"]
    shown = on.catalog.show("local")
    assert (shown["state"], shown["reason"]) == ("down", "The runner refused: local is not to my taste")
    on.world.refused.clear()
    await on.catalog.refresh(THE_HUB, "local")
    assert (on.catalog.show("local")["state"], on.world.children["local"]["command"]) == ("ready", ["hello", "louder"])
    on.world.runner_is_away = True
    await on.catalog.apply(ADMIN, Declaration(servers=[ServerSpec(name="local", url=NEW)]))
    on.world.runner_is_away = False
    await on.catalog.reconcile()
    assert on.world.children == {}


async def test_children_are_those_that_are_declared_and_those_of_the_hub(on: Stage) -> None:
    await on.catalog.add(ADMIN, local())
    await on.catalog.add(ADMIN, ServerSpec(name="choosy", command=["hello"]))
    await on.catalog.register_internal("rag", Address("http://runner/s/rag/mcp"))
    kept = on.world.children["local"]
    on.world.children = {name: {} for name in ("rag", "local-chat", "stray", "try-running")}
    on.world.refused.add("choosy")
    await on.catalog.reconcile(["rag", "local-chat"])
    assert on.world.children["stray"] == {}, "it may be about to be said whose it is"
    await on.catalog.reconcile(["rag", "local-chat"])
    assert on.world.children == {"rag": {}, "local-chat": {}, "try-running": {}, "local": kept}


async def test_a_child_is_left_alone_while_its_server_is_being_added(on: Stage) -> None:
    gate = on.world.hold(CHILD)
    async with anyio.create_task_group() as group:
        group.start_soon(on.catalog.add, ADMIN, local())
        await gate.reached.wait()
        other, _ = on.another_worker()
        await other.reconcile()
        await other.reconcile()
        assert list(on.world.children) == ["local"]
        gate.open.set()
    assert on.catalog.show("local")["state"] == "ready"


async def test_a_trial_that_nobody_ended_ends(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    on.world.children["try-forgotten"] = {}
    await on.catalog.reconcile()
    assert list(on.world.children) == ["try-forgotten"]
    monkeypatch.setattr(children, "TRIAL_SECONDS", 0.0)
    await on.catalog.reconcile()
    assert on.world.children == {}


async def test_a_declaration_that_this_version_cannot_read_is_a_reason_not_a_failure(on: Stage) -> None:
    await on.catalog.add(ADMIN, local())
    with on.database.session() as session:
        row = session.get(ServerRow, "local")
        assert row is not None
        row.declared = row.declared | {"from": "the future"}
        session.add(row)
    await on.catalog.load()
    shown = await on.catalog.refresh(THE_HUB, "local")
    assert (shown["state"], shown["reason"]) == ("down", "Its declaration does not fit this version: declare it anew.")
    await on.catalog.reconcile()


async def test_a_file_of_many_servers_starts_only_some_of_them_at_once(on: Stage) -> None:
    """Field, P15: a hundred servers that start together starve each other until all are too late."""
    at_once, most = 0, 0
    look = on.world.look

    async def counted(address: Address, wanted: Wanted) -> Survey:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await anyio.lowlevel.checkpoint()
        try:
            return await look(address, wanted)
        finally:
            at_once -= 1

    many = [ServerSpec(name=f"s{number}", command=["true"]) for number in range(40)]
    catalog = Catalog(
        on.database,
        counted,
        on.snapshots,
        on.runner,
        on.keyring,
        on.audit,
        package_folder=Path(str(on.database.engine.url.database)).parent / "packages",
    )
    await catalog.load()
    await catalog.apply(ADMIN, Declaration(servers=many))
    assert len(on.world.children) == len(many)
    assert 1 < most <= PROBES_AT_ONCE
