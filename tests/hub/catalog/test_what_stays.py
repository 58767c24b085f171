"""What a change leaves alone: unchanged servers keep their objects, so a change costs what has changed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import event

from hub.catalog import store
from hub.catalog.discovery import read
from hub.catalog.manifest import CollectionSpec, Declaration, ServerSpec
from hub.catalog.models import ServerRow
from hub.catalog.naming import Holder
from hub.catalog.publisher import compared
from hub.catalog.snapshot import Snapshot
from hub.ids import now
from tests.hub.catalog.scripted import ADMIN, Stage, offering, stage, tool

pytestmark = pytest.mark.anyio


def spec(name: str) -> ServerSpec:
    return ServerSpec(name=name, url=f"http://{name}/mcp")


async def some_servers(on: Stage) -> Snapshot:
    for name in "abc":
        eras = ("modern", "legacy")
        on.world.servers[f"http://{name}/mcp"] = offering(tool(f"{name}1"), tool(f"{name}2"), eras=eras)
    chosen = [CollectionSpec(name="some", members=["a/a1", "b"]), CollectionSpec(name="whole", members=["*"])]
    await on.catalog.apply(ADMIN, Declaration(servers=[spec(name) for name in "abc"], collections=chosen))
    return on.snapshots.current


async def test_a_changed_tool_leaves_every_other_target_and_part_the_object_that_it_was(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        before = await some_servers(on)
        changed = offering(tool("b1", description="new"), tool("b2"), eras=("modern", "legacy"))
        on.world.servers["http://b/mcp"] = changed
        await on.catalog.look_again("b")
        after = on.snapshots.current
    assert compared(before, after).servers == {"b"}
    for view in ("", "c/some", "c/whole", "s/a"):
        old = {part.server: part for part in before.views[view].parts}
        new = {part.server: part for part in after.views[view].parts}
        assert {name for name in old if old[name] is not new[name]} == ({"b"} & old.keys())
    was, now_is = before.views[""].listed["modern", "tool"], after.views[""].listed["modern", "tool"]
    assert [one.name for one, other in zip(was, now_is, strict=True) if one is not other] == ["b1"]
    assert after.servers["a"] is before.servers["a"]


async def test_another_worker_reads_only_the_definitions_of_what_changed(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await some_servers(on)
        other, snapshots = on.another_worker()
        await other.load()
        on.world.servers["http://b/mcp"] = offering(tool("b1"), eras=("modern", "legacy"))
        await on.catalog.look_again("b")
        asked: list[tuple[str, object]] = []

        def note(_connection: object, _cursor: object, statement: str, values: object, *_more: object) -> None:
            asked.append((statement, values))

        event.listen(on.database.engine, "before_cursor_execute", note)
        await other.load()
        event.remove(on.database.engine, "before_cursor_execute", note)
        assert [values for statement, values in asked if "FROM definition" in statement] == [("b",)]
        assert not [statement for statement, _ in asked if "FROM alias" in statement]
        assert [one.name for one in snapshots.current.views["s/b"].listed["modern", "tool"]] == ["b1"]


async def test_what_two_eras_say_alike_is_kept_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await some_servers(on)
        fresh, snapshots = on.another_worker()
        await fresh.load()
        listed = snapshots.current.views[""].listed
        for modern, legacy in zip(listed["modern", "tool"], listed["legacy", "tool"], strict=True):
            assert modern.fragment is legacy.fragment


async def test_a_clock_that_was_set_back_does_not_hide_a_change(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await some_servers(on)
        ahead = now() + timedelta(days=1)
        with on.database.session() as session:
            row = session.get(ServerRow, "b")
            assert row is not None
            row.changed = ahead
        await on.catalog.load()
        on.world.servers["http://b/mcp"] = offering(tool("b9"))
        await on.catalog.look_again("b")
        assert [one.name for one in on.snapshots.current.views["s/b"].listed["modern", "tool"]] == ["b9"]
        stored = store.server(on.database, "b")
        assert stored is not None and stored.changed > ahead


async def test_a_look_that_finds_the_same_parses_nothing_again() -> None:
    survey = offering(tool("x"), tool("y"), eras=("modern", "legacy"))
    first = read(survey)
    again = read(survey, first.definitions)
    assert again.definitions == first.definitions
    assert all(one.body is other.body for one, other in zip(again.definitions, first.definitions, strict=True))
    moved = read(offering(tool("y"), tool("x")), first.definitions)
    assert [(one.name, one.position) for one in moved.definitions] == [("y", 0), ("x", 1)]


async def test_only_definitions_that_differ_are_written(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await some_servers(on)
        written: list[object] = []

        def note(_connection: object, _cursor: object, statement: str, values: object, *_more: object) -> None:
            if "definition" in statement and not statement.startswith("SELECT"):
                written.append(values)

        event.listen(on.database.engine, "before_cursor_execute", note)
        on.world.servers["http://b/mcp"] = offering(tool("b1"), tool("b3"), eras=("modern", "legacy"))
        await on.catalog.look_again("b")
        event.remove(on.database.engine, "before_cursor_execute", note)
        said = repr(written)
        assert "'b3'" in said and "'b2'" in said and "'b1'" not in said and "'a1'" not in said


async def test_a_name_claimed_by_another_worker_meanwhile_is_read_before_names_are_given(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await some_servers(on)
        stored = store.read(on.database)
        taken = store.claim(on.database, stored, {("tool", "mine"): Holder("a", "tool", "mine")})
        assert taken is not None and taken.owned["tool", "mine"] == Holder("a", "tool", "mine")
        assert store.claim(on.database, stored, {("tool", "mine"): Holder("b", "tool", "mine")}) is None
        assert store.read(on.database, stored).owned["tool", "mine"] == Holder("a", "tool", "mine")


async def test_escaped_member_names_are_understood_as_well_as_plain_ones(tmp_path: Path) -> None:
    """The parse is spared by looking for words; JSON has other ways to write them."""
    async with stage(tmp_path) as on:
        told = tool("x", execution={"taskSupport": "optional"}).replace(b'"execution"', b'"\\u0065xecution"')
        on.world.servers["http://a/mcp"] = offering(told, eras=("legacy",))
        await on.catalog.add(ADMIN, spec("a"))
        listed = on.snapshots.current.views[""].listed
        assert "execution" in orjson.loads(listed["legacy", "tool"][0].fragment)
        assert "execution" not in orjson.loads(listed["modern", "tool"][0].fragment)
