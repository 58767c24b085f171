"""Exposed names: few surprises, no clashes, nothing that ever changes its meaning."""

from __future__ import annotations

import re
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.catalog.naming import BUDGET, CLIENT_PREFIX, LONGEST_NAME, URI_SCHEME, Holder, expose
from hub.upstream.address import Kind

SERVERS = st.sampled_from(["a", "b", "a-b", "x" * 40])
TEXT = st.one_of(
    st.sampled_from(["search", "a__search", "b__search", "search_b", "a b", "a_b", "é" * 70, "long" * 20]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=90),
)
TOOLS = st.lists(st.builds(Holder, SERVERS, st.just("tool"), TEXT), max_size=25)
RESOURCES = st.lists(st.builds(Holder, SERVERS, st.just("resource"), TEXT.map(lambda t: f"file:///{t}")), max_size=15)


def tool(server: str, name: str = "search") -> Holder:
    return Holder(server, "tool", name)


@settings(max_examples=150, deadline=None)
@given(TOOLS, st.integers(20, LONGEST_NAME))
def test_every_holder_gets_one_valid_name_of_its_own(holders: list[Holder], budget: int) -> None:
    names = expose(holders, budget=budget)
    assert set(names.listed) == set(holders)
    assert len(set(names.listed.values())) == len(names.listed)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) and len(name) <= budget for name in names.listed.values())


@settings(max_examples=150, deadline=None)
@given(st.one_of(TOOLS, RESOURCES))
def test_a_listed_name_leads_back_to_its_holder(holders: list[Holder]) -> None:
    names = expose(holders)
    for holder, exposed in names.listed.items():
        assert names.callable[holder.kind, exposed] == holder


@settings(max_examples=150, deadline=None)
@given(st.one_of(TOOLS, RESOURCES), st.data())
def test_names_do_not_depend_on_forgetting_and_registering_again(holders: list[Holder], data: st.DataObject) -> None:
    first = expose(holders)
    owned = dict(first.claims)
    gone = data.draw(st.sampled_from(holders)) if holders else None
    without = expose([holder for holder in holders if holder != gone], owned)
    owned |= without.claims
    again = expose(data.draw(st.permutations(holders)) if _only_tools(holders) else holders, owned)
    assert again.listed == first.listed


@settings(max_examples=150, deadline=None)
@given(TOOLS, TOOLS)
def test_a_name_once_exposed_never_leads_to_another_server(before: list[Holder], more: list[Holder]) -> None:
    first = expose(before)
    owned = dict(first.claims)
    second = expose([*before, *more], owned)
    owned |= second.claims
    third = expose(more, owned)
    for names in (second, third):
        for holder, exposed in first.listed.items():
            assert names.callable.get((holder.kind, exposed), holder) == holder
    for holder, exposed in first.listed.items():
        assert second.callable[holder.kind, exposed] == holder


def _only_tools(holders: list[Holder]) -> bool:
    return all(holder.kind == "tool" for holder in holders)


def test_a_name_without_a_rival_stays_bare() -> None:
    assert expose([tool("a"), tool("b", "find")]).listed == {tool("a"): "search", tool("b", "find"): "find"}


def test_on_a_collision_all_holders_are_prefixed() -> None:
    assert expose([tool("a"), tool("b")]).listed == {tool("a"): "a__search", tool("b"): "b__search"}


def test_a_bare_name_once_exposed_stays_callable_for_its_first_owner() -> None:
    first = expose([tool("a")])
    second = expose([tool("a"), tool("b")], first.claims)
    assert second.callable["tool", "search"] == tool("a")
    assert "search" not in second.listed.values()


def test_a_bare_name_is_listed_again_when_its_owner_is_alone_again() -> None:
    first = expose([tool("a")])
    second = expose([tool("a"), tool("b")], first.claims)
    owned = {**first.claims, **second.claims}
    third = expose([tool("a")], owned)
    assert third.listed == {tool("a"): "search"}
    assert third.callable["tool", "a__search"] == tool("a")


def test_long_names_are_cut_and_told_apart_by_a_hash() -> None:
    one, other = tool("a", "x" * 60 + "1"), tool("a", "x" * 60 + "2")
    names = expose([one, other]).listed
    assert {len(name) for name in names.values()} == {BUDGET}
    assert names == expose([other, one]).listed


def test_tools_and_prompts_do_not_get_in_each_others_way() -> None:
    kinds: tuple[Kind, Kind] = ("tool", "prompt")
    holders = [Holder(server, kind, "review") for server, kind in zip("ab", kinds, strict=True)]
    assert set(expose(holders).listed.values()) == {"review"}


def test_the_first_owner_of_a_uri_keeps_it_and_others_are_exposed_below_their_server() -> None:
    uri = "file:///{path}"
    first, second = Holder("a", "template", uri), Holder("b", "template", uri)
    names = expose([first, second])
    assert names.listed == {first: uri, second: f"{URI_SCHEME}b/{uri}"}
    assert expose([second, first], names.claims).listed == names.listed
    assert expose([second], names.claims).listed == {second: f"{URI_SCHEME}b/{uri}"}


def test_uncontested_resources_leave_no_claims_behind() -> None:
    assert not expose([Holder("a", "resource", f"file:///{n}") for n in range(50)]).claims


def test_a_hundred_thousand_random_names_fit_lead_back_and_stay_when_registered_again() -> None:
    draw = Random(20261125)
    letters = "abcXYZ019_-.:/ éß漢字" + "x" * 20
    servers = ["".join(draw.choices("abcdefgh-", k=draw.randrange(1, 40))) for _ in range(300)]
    words = ["".join(draw.choices(letters, k=draw.randrange(1, 100))) for _ in range(20_000)]
    holders = list(dict.fromkeys(tool(draw.choice(servers), draw.choice(words)) for _ in range(100_500)))[:100_000]
    assert len(holders) > 99_000
    names = expose(holders)
    exposed = set(names.listed.values())
    assert len(exposed) == len(holders)
    assert max(len(CLIENT_PREFIX + name) for name in exposed) <= LONGEST_NAME
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in exposed)
    assert all(names.callable["tool", name] == holder for holder, name in names.listed.items())
    # Forgotten and registered again in another order, each under the name that it had.
    again = draw.sample(holders, len(holders))
    assert expose(again, names.claims).listed == names.listed
