"""The benchmark of tokens: its catalog is as large as it says, and its table is what it counted."""

from __future__ import annotations

from benchmarks import catalog500
from benchmarks.tokens import Context, table


def test_the_catalog_has_500_tools_with_names_of_their_own_on_each_server() -> None:
    names = {server: [tool.name for tool in catalog500.tools_of(server)] for server in catalog500.SERVERS}
    assert sum(map(len, names.values())) == 500
    assert all(len(set(some)) == len(some) == 100 for some in names.values())


def test_every_turn_reads_what_was_there_before_it() -> None:
    context = Context(len)
    context.read("12345")
    context.says("67")
    context.read("890")
    context.says("1")
    assert (context.size, context.turns) == (11, [5, 10])
    assert context.read_in_all == 5 + 10
    told = table("characters", {"plain": context, "code": Context(len, 1, 1, [1], 1)})
    assert "| plain | 0 | 11 | 15 | 2 | 0 |" in told
