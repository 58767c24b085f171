"""What is measured: which load, in which surroundings. The figures' names in tables come from here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.load import MARK, Load

World = Literal["one", "list", "stdio", "many"]
"""one: a server with 6 tools. list: one with 1,000. stdio: one behind the runner. many: 20 servers of 100 tools."""

TOOLS: dict[World, int] = {"one": 6, "list": 1000, "stdio": 6, "many": 100}
ERAS = ("legacy", "modern")
PAYLOAD = 50_000
TICKS = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the tables; `tool` is the server's own name for what is called."""

    name: str
    world: World
    tool: str
    load: Load

    @property
    def key(self) -> str:
        """Unique."""
        return f"{self.world} {self.name} {self.load.era} {self.load.connections}"

    def at(self, url: str, token: str, exposed: str, seconds: float) -> Load:
        """The load against one system, which knows the tool as `exposed`."""
        params = self.load.params | {"name": exposed} if self.tool else self.load.params
        return replace(self.load, url=url, token=token, params=params, seconds=seconds)


def cases(connections: tuple[int, ...], *, quick: bool) -> list[Case]:
    """All rows, in the order of the tables."""
    found: list[Case] = []
    for era in ERAS:
        found += [_echo("echo", "one", era, count) for count in connections]
        found.append(_list(era, 1 if quick else 4))
        found.append(_big(era))
        found.append(_ticks(era, 16 if quick else 100))
        if not quick:
            # Each has a hub of its own to start, which the short form has no time for.
            found.append(_echo("echo over stdio", "stdio", era, 16))
            found.append(_echo("echo, 20 servers of 100 tools", "many", era, 16))
    return found


def _echo(name: str, world: World, era: str, connections: int) -> Case:
    text = f"call {MARK.decode()} of many"
    params: dict[str, Any] = {"name": "echo", "arguments": {"text": text}}
    return Case(name, world, "echo", Load("", era, connections, params=params, needle=f'"{text}"'))


def _list(era: str, connections: int) -> Case:
    return Case(
        "tools/list of 1,000",
        "list",
        "",
        Load("", era, connections, method="tools/list", needle='"inputSchema"', times=1000),
    )


def _big(era: str) -> Case:
    params: dict[str, Any] = {"name": "big", "arguments": {"count": PAYLOAD}}
    return Case("answer of 50 kB", "one", "big", Load("", era, 8, params=params, needle="xxxx", least=PAYLOAD))


def _ticks(era: str, connections: int) -> Case:
    params: dict[str, Any] = {"name": "ticks", "arguments": {"count": TICKS, "text": "done"}}
    needle = '"method":"notifications/progress"'
    return Case(
        "event streams of 10 events",
        "one",
        "ticks",
        Load("", era, connections, params=params, needle=needle, times=TICKS),
    )
