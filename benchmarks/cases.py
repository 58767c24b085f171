"""What is measured under load: which load, in which surroundings, and what the issue promises of it.

A new row is a line in `cases`; a new bound a line in `BOUNDS`. Single figures that are no load (memory, a swap) are
probes (`probes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.load import MARK, Load

World = Literal["one", "list", "stdio", "many", "wide", "two"]
"""one: a server with 6 tools. list: one with 1,000. stdio: one behind the runner. many: 10 servers of 100 tools.
wide: 100 of 100, beside a second hub with one server. two: one server, two workers."""

TOOLS: dict[World, int] = {"one": 6, "list": 1000, "stdio": 6, "many": 100, "wide": 100, "two": 6}
SERVERS: dict[World, int] = {"one": 1, "list": 1, "stdio": 1, "many": 10, "wide": 100, "two": 1}
WORKERS: dict[World, int] = {"two": 2}
ERAS = ("legacy", "modern")
PAYLOAD = 50_000
MEGABYTE = 1_000_000
EVENTS, EVENT_SECONDS = 10, 0.1
LEAST_STREAMING_SECONDS = 2.5
"""A call that streams takes a second."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the tables; `tool` is the server's own name for what is called."""

    name: str
    world: World
    tool: str
    load: Load
    proxied: bool = True
    """Whether nginx can stand in the same place: it cannot speak stdio, nor list what is behind several servers."""

    @property
    def key(self) -> str:
        """Unique."""
        return f"{self.world} {self.name} {self.load.era} {self.load.connections}"

    def at(self, url: str, token: str, exposed: str, seconds: float) -> Load:
        """The load against one system, which knows the tool as `exposed`."""
        params = self.load.params | {"name": exposed} if self.tool else self.load.params
        seconds = max(seconds, LEAST_STREAMING_SECONDS) if self.tool == "ticks" else seconds
        return replace(self.load, url=url, token=token, params=params, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Bound:
    """A promise: a column of the rows whose key begins so, and the most it may be."""

    rows: str
    column: str
    most: float
    words: str


BOUNDS = (
    Bound("one echo ", "cpu_of_nginx@16", 5.0, "CPU per call at 16 connections, times nginx's"),
    Bound("one echo ", "added_p50@1", 0.35, "added at the median with one connection, ms"),
    Bound("one echo ", "p99_of_direct@64", 4.0, "p99 at 64 connections, times the direct call's"),
    Bound("stdio echo over stdio", "added_p50@1", 0.6, "stdio through the runner: added at the median, ms"),
    Bound("stdio echo over stdio", "hub_cpu@1", 0.6, "stdio through the runner: CPU per call in all, ms"),
    Bound("wide echo", "cpu_of_small", 1.1, "CPU per call with 100 servers of 100 tools, times that with one"),
    Bound("one result of 1 MB", "p50_of_direct", 2.5, "results of 1 MB: median, times the direct call's"),
    Bound("one arguments of 1 MB", "p50_of_direct", 2.5, "arguments of 1 MB: median, times the direct call's"),
    Bound("one 100 streams", "hub_cores", 0.25, "100 event streams of 10 events a second: cores"),
)


def cases(connections: tuple[int, ...], *, quick: bool) -> list[Case]:
    """All rows, in the order of the tables."""
    found: list[Case] = []
    for era in ERAS:
        found += [_echo("echo", "one", era, count) for count in connections]
        found.append(_list(era, 1 if quick else 4))
        found.append(_big("answer of 50 kB", era, 8, PAYLOAD))
        found.append(_big("result of 1 MB", era, 2, MEGABYTE))
        found.append(_large_arguments(era))
        found.append(_ticks(era, 16 if quick else 100))
        if not quick:
            # Each has a hub of its own to start, which the short form has no time for.
            found += [_echo("echo over stdio", "stdio", era, count) for count in (1, 16)]
            found.append(_echo("echo, 10 servers of 100 tools", "many", era, 16))
            found.append(_echo("echo, 100 servers of 100 tools", "wide", era, 16))
            found.append(_echo("echo, two workers", "two", era, 16))
    return found


def _echo(name: str, world: World, era: str, connections: int) -> Case:
    text = f"call {MARK.decode()} of many"
    params: dict[str, Any] = {"name": "echo", "arguments": {"text": text}}
    load = Load("", era, connections, params=params, needle=f'"{text}"')
    return Case(name, world, "echo", load, proxied=world in ("one", "two"))


def _list(era: str, connections: int) -> Case:
    load = Load("", era, connections, method="tools/list", needle='"inputSchema"', times=1000)
    return Case("tools/list of 1,000", "list", "", load)


def _big(name: str, era: str, connections: int, size: int) -> Case:
    params: dict[str, Any] = {"name": "big", "arguments": {"count": size}}
    return Case(name, "one", "big", Load("", era, connections, params=params, needle="xxxx", least=size))


def _large_arguments(era: str) -> Case:
    params: dict[str, Any] = {"name": "length", "arguments": {"text": "y" * MEGABYTE}}
    return Case("arguments of 1 MB", "one", "length", Load("", era, 2, params=params, needle=f'"{MEGABYTE}"'))


def _ticks(era: str, connections: int) -> Case:
    arguments = {"count": EVENTS, "text": "done", "pause": EVENT_SECONDS}
    needle = '"method":"notifications/progress"'
    load = Load("", era, connections, params={"name": "ticks", "arguments": arguments}, needle=needle, times=EVENTS)
    return Case(f"{connections} streams of 10 events/s", "one", "ticks", load)
