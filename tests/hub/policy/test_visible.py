"""What a principal sees of a view is what admission says of each target, in order, for any page of it."""

from __future__ import annotations

import random

import pytest

from hub.catalog.snapshot import Address, Part, Server, Snapshot, Target, View
from hub.identity.principal import Principal
from hub.policy import visible
from hub.policy.admission import Admission
from hub.policy.visible import Visible

SERVERS, TOOLS = 12, 9


def catalog(revision: int = 1) -> Snapshot:
    parts: list[Part] = []
    for server in (f"s{number}" for number in range(SERVERS)):
        targets = tuple(Target(server, "tool", f"t{n}", f"{server}__t{n}", b"{}", "d") for n in range(TOOLS))
        parts.append(Part(server, {("modern", "tool"): targets}, {("tool", one.exposed): one for one in targets}))
    empty = Part("empty", {}, {})
    parts.append(empty)
    listed = {("modern", "tool"): tuple(one for part in parts for one in part.listed.get(("modern", "tool"), ()))}
    names = {name: target for part in parts for name, target in part.names.items()}
    view = View("", tuple(part.server for part in parts), listed, names, parts=tuple(parts))  # pyright: ignore[reportArgumentType] - literals
    servers = {part.server: Server(part.server, Address("http://x"), "", frozenset(), {}, {}) for part in parts}
    return Snapshot(revision, servers, {"": view})


def holder(*scopes: str) -> Principal:
    return Principal("key:x", "x", "service", frozenset(scopes))


def some_scopes(draw: random.Random) -> Principal:
    scopes = [f"call:s{draw.randrange(SERVERS)}" for _ in range(draw.randrange(3))]
    scopes += [f"call:s{draw.randrange(SERVERS)}/t{draw.randrange(TOOLS)}" for _ in range(draw.randrange(6))]
    return holder(*scopes, *draw.choice([["models"], ["call"], [], ["call:empty"], ["call:gone/t1"]]))


def test_any_page_is_what_admission_says_of_each_target() -> None:
    draw, admission, snapshot = random.Random(3), Admission(), catalog()
    kept, view = Visible(admission), snapshot.views[""]
    for _ in range(300):
        principal = some_scopes(draw)
        expected = list(admission.visible(principal, view.listed["modern", "tool"]))
        chosen = kept.targets(snapshot, view, "modern", "tool", principal)
        start, count = draw.randrange(len(expected) + 3), 1 + draw.randrange(20)
        assert (len(chosen), chosen.all()) == (len(expected), expected)
        assert chosen.page(start, count) == expected[start : start + count]
        used = {one.server for one in expected}
        whole = [name for name in view.servers if admission.decide(principal, "tool:call", name).allow or name in used]
        assert [one.name for one in kept.servers(snapshot, view, principal)] == whole


def test_the_same_scopes_share_one_selection_and_a_new_snapshot_has_new_ones() -> None:
    kept, first, second = Visible(Admission()), catalog(1), catalog(2)
    one = kept.targets(first, first.views[""], "modern", "tool", holder("call:s1", "models"))
    other = kept.targets(first, first.views[""], "modern", "tool", holder("call:s1", "admin"))
    later = kept.targets(second, second.views[""], "modern", "tool", holder("call:s1"))
    assert one is other
    assert later is not one


def test_a_selection_of_whole_servers_copies_no_target() -> None:
    kept, snapshot = Visible(Admission()), catalog()
    everything = kept.targets(snapshot, snapshot.views[""], "modern", "tool", holder("call"))
    assert everything.all() == list(snapshot.views[""].listed["modern", "tool"])


def test_what_is_kept_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "MOST_PLACES", 200)
    draw, admission, snapshot = random.Random(5), Admission(), catalog()
    kept, view = Visible(admission), snapshot.views[""]
    for _ in range(500):
        principal = some_scopes(draw)
        expected = list(admission.visible(principal, view.listed["modern", "tool"]))
        assert kept.targets(snapshot, view, "modern", "tool", principal).all() == expected


def test_a_view_that_lists_something_else_than_its_servers_is_filtered_target_by_target() -> None:
    admission, snapshot = Admission(), catalog()
    pinned = snapshot.views[""].listed["modern", "tool"][3:30]
    view = View("", snapshot.views[""].servers, {("modern", "tool"): pinned}, {}, mode="search")
    chosen = Visible(admission).targets(snapshot, view, "modern", "tool", holder("call:s1", "call:s2/t1"))
    assert chosen.all() == list(admission.visible(holder("call:s1", "call:s2/t1"), pinned))
