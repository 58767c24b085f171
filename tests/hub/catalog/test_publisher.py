"""Snapshots: what each view lists to clients of each era, what is reused, and what is announced."""

from __future__ import annotations

import time

import anyio
import orjson
import pytest

from hub.catalog.discovery import read
from hub.catalog.publisher import Curated, Offer, Publisher, Snapshots
from hub.catalog.snapshot import Address, Era, Kind, Server, Snapshot, Target
from hub.upstream.address import Survey
from tests.hub.catalog.scripted import offering, tool


def offer(name: str, survey: Survey) -> Offer:
    found = read(survey)
    server = Server(name, Address(f"http://{name}/mcp"), name, frozenset(found.facts), {}, {})
    return Offer(server, found.definitions)


def publish(publisher: Publisher, *offers: Offer, collections: tuple[Curated, ...] = ()) -> Snapshot:
    return publisher.build(offers, collections, publisher.names(offers, {}), 1)


def listed(snapshot: Snapshot, view: str, era: Era, kind: Kind = "tool") -> tuple[Target, ...]:
    return snapshot.views[view].listed.get((era, kind), ())


def test_a_server_of_one_era_is_listed_to_clients_of_both() -> None:
    odd = tool("x", outputSchema={"type": "array"}, annotations={"title": "t"})
    snapshot = publish(Publisher(), offer("a", offering(odd)))
    assert orjson.loads(listed(snapshot, "", "modern")[0].fragment) == orjson.loads(odd)
    shown = orjson.loads(listed(snapshot, "", "legacy")[0].fragment)
    assert "outputSchema" not in shown and shown["annotations"] == {"title": "t"}
    fine = publish(Publisher(), offer("a", offering(tool("x", outputSchema={"type": "object"}))))
    assert "outputSchema" in orjson.loads(listed(fine, "", "legacy")[0].fragment)
    old = publish(Publisher(), offer("a", offering(tool("x", execution={"taskSupport": "optional"}), eras=("legacy",))))
    assert "execution" in orjson.loads(listed(old, "", "legacy")[0].fragment)
    assert "execution" not in orjson.loads(listed(old, "", "modern")[0].fragment)


def test_a_server_of_both_eras_is_listed_in_its_own_words_to_each() -> None:
    facts = offering(eras=("modern", "legacy")).facts
    survey = Survey(
        facts,
        {("modern", "tool"): (tool("x", description="new"),), ("legacy", "tool"): (tool("x", description="old"),)},
    )
    snapshot = publish(Publisher(), offer("a", survey))
    assert orjson.loads(listed(snapshot, "", "modern")[0].fragment)["description"] == "new"
    assert orjson.loads(listed(snapshot, "", "legacy")[0].fragment)["description"] == "old"
    assert snapshot.views[""].names["tool", "x"] is listed(snapshot, "", "modern")[0]


def test_nothing_is_renamed_in_the_view_of_one_server() -> None:
    snapshot = publish(Publisher(), offer("a", offering(tool("x y"))), offer("b", offering(tool("x y"))))
    assert {target.exposed for target in listed(snapshot, "", "modern")} != {"x y"}
    assert listed(snapshot, "s/b", "modern")[0].fragment == tool("x y")


def test_collections_choose_by_server_and_by_name() -> None:
    offers = (offer("a", offering(tool("read"), tool("write"))), offer("b", offering(tool("find"))))
    chosen = (
        Curated("safe", ("a/read", "b")),
        Curated("all", ("*",)),
        Curated("none", ("c",)),
        Curated("r", ("*/re*",)),
    )
    snapshot = publish(Publisher(), *offers, collections=chosen)
    names = {view: [target.exposed for target in listed(snapshot, view, "modern")] for view in snapshot.views}
    assert names["c/safe"] == ["read", "find"]
    assert names["c/all"] == ["read", "write", "find"]
    assert names["c/none"] == [] and names["c/r"] == ["read"]
    assert snapshot.views["c/safe"].resolve("tool", "write") is None
    assert snapshot.views["c/none"].servers == ()


def test_resources_are_renamed_by_uri() -> None:
    resource = orjson.dumps({"uri": "file:///x", "name": "x"})
    offers = [offer(name, offering(resource=(resource,))) for name in "ab"]
    snapshot = publish(Publisher(), *offers)
    shown = [orjson.loads(target.fragment) for target in listed(snapshot, "", "modern", "resource")]
    assert shown == [{"uri": "file:///x", "name": "x"}, {"uri": "entrepot://b/file:///x", "name": "x"}]


def test_ten_thousand_tools_are_published_in_a_moment_and_again_in_less() -> None:
    publisher = Publisher()
    long = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "d" * 40} for n in range(8)}}
    offers = [offer(f"s{s}", offering(*(tool(f"t{n}", inputSchema=long) for n in range(1000)))) for s in range(10)]
    names = publisher.names(offers, {})
    first = publisher.build(offers, (), names, 1)
    assert len(listed(first, "", "modern")) == 10_000
    started = time.process_time()
    second = publisher.build(offers, (), names, 2)
    # Ten times what it takes on the reference machine, which is under 0.2 s.
    assert time.process_time() - started < 2
    assert all(
        one is other for one, other in zip(listed(first, "", "modern"), listed(second, "", "modern"), strict=True)
    )


@pytest.mark.anyio
async def test_subscribers_learn_which_servers_and_kinds_changed_and_nothing_more() -> None:
    publisher, snapshots = Publisher(), Snapshots()
    a, b = offer("a", offering(tool("x"))), offer("b", offering(tool("y")))
    snapshots.swap(publish(publisher, a, b))
    changes = snapshots.subscribe()
    snapshots.swap(publish(publisher, a, b))
    snapshots.swap(publish(publisher, a, offer("b", offering(tool("y"), tool("z")))))
    snapshots.swap(publish(publisher, offer("a", offering(tool("x", description="new"))), b))
    with anyio.fail_after(5):
        change = await anext(changes)
    assert (change.servers, change.kinds) == ({"a", "b"}, {"tool"})
    changes.close()
    with anyio.fail_after(5):
        assert [change async for change in changes] == []
