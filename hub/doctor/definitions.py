"""What a server lists: read page by page within bounds, and judged. Nothing is called."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from hub.catalog import discovery
from hub.catalog.naming import BUDGET, Holder, bare_name
from hub.doctor.checks import Finding, found
from hub.doctor.wire import Heard
from hub.upstream.address import Era, Facts, Kind, Survey
from hub.upstream.probe import LISTS

MOST_PAGES = 50
LIST_SECONDS = 8.0
SLOW_SECONDS = 3.0
"""Common clients give a server some ten seconds for all its lists together, often in one model turn."""

MOST_TOOLS = 128
"""The hard limit of several clients."""
MOST_BYTES = 512 * 1024
"""Some 130,000 tokens: the whole context of many models."""

SHOWN = 5


@dataclass(slots=True)
class Listed:
    """What one era's lists held."""

    facts: Facts
    bodies: dict[Kind, tuple[bytes, ...]] = field(default_factory=dict[Kind, tuple[bytes, ...]])

    def counted(self) -> str:
        """How much of each kind."""
        told = [
            f"{len(bodies)} {kind}{'' if len(bodies) == 1 else 's'}" for kind, bodies in self.bodies.items() if bodies
        ]
        return ", ".join(told) or "nothing"


class Reading:
    """The pages of one list: add answers until one says that it is over."""

    def __init__(self, method: str, member: str, era: Era) -> None:
        self.method = method
        self.cursor: str | None = None
        self.bodies: list[bytes] = []
        self.findings: list[Finding] = []
        self._member = member
        self._era = era
        self._seen: set[str] = set()
        self._began = time.monotonic()
        self._pages = 0

    def add(self, heard: Heard) -> bool:
        """Take one page. Whether there is another to ask for."""
        result = heard.result
        if result is None:
            code, said = heard.error
            if code != -32601:
                why = heard.trouble.message if heard.trouble else said or f"HTTP {heard.status} without a result"
                self.findings.append(found("list-failed", f"{self.method}: {why}"))
            return False
        if heard.seconds > SLOW_SECONDS:
            self.findings.append(found("slow-list", f"{self.method} took {heard.seconds:.1f} s"))
        if self._era == "modern" and self._pages == 0:
            lacking = [name for name in ("resultType", "ttlMs", "cacheScope") if name not in result]
            if lacking:
                self.findings.append(found("invalid-result", f"{self.method} has no {', '.join(lacking)}"))
        items: Any = result.get(self._member)
        if not isinstance(items, list):
            self.findings.append(found("list-failed", f"{self.method}: its result has no list {self._member!r}"))
            return False
        self.bodies += [orjson.dumps(item) for item in cast("list[Any]", items)]
        self._pages += 1
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return False
        if cursor in self._seen:
            self.findings.append(found("pagination-loop", f"{self.method}: the cursor {cursor[:60]!r} came twice"))
            return False
        self._seen.add(cursor)
        self.cursor = cursor
        if self._pages >= MOST_PAGES or time.monotonic() - self._began > LIST_SECONDS:
            spent = time.monotonic() - self._began
            self.findings.append(found("slow-list", f"{self.method}: no end after {self._pages} pages, {spent:.1f} s"))
            return False
        return True


def lists_of(capabilities: Mapping[str, Any]) -> Iterator[tuple[Kind, str, str]]:
    """Kind, method and member of each list that capabilities promise."""
    for kind, (capability, method, member) in LISTS.items():
        if capability in capabilities:
            yield kind, method, member


def judged(era: Era, listed: Listed) -> Iterator[Finding]:
    """All findings about what was listed in an era."""
    promised = [kind for kind, _, _ in lists_of(listed.facts.capabilities)]
    if not promised:
        yield found("nothing-offered", f"Its capabilities are {sorted(listed.facts.capabilities) or 'empty'}")
    if "tool" in promised and not listed.bodies.get("tool"):
        yield found("empty-tools", "tools/list is empty, although the capabilities name tools")
    read = discovery.read(Survey({era: listed.facts}, {(era, kind): told for kind, told in listed.bodies.items()}))
    twice = [problem for problem in read.problems if "listed twice" in problem]
    unfit = [problem for problem in read.problems if problem not in twice]
    if unfit:
        yield found("invalid-schema", _some(unfit))
    if read.unchecked:
        yield found("unchecked-arguments", _some(read.unchecked))
    if twice:
        yield found("duplicate-names", _some(twice))
    changed = [
        f"{one.name[:80]!r} becomes {shown}"
        for one in read.definitions
        if one.kind in ("tool", "prompt") and (shown := bare_name(Holder("", one.kind, one.name))) != one.name
    ]
    if changed:
        yield found("name-budget", f"{_some(changed)} ({BUDGET} characters fit)")
    tools = listed.bodies.get("tool", ())
    size = sum(map(len, tools))
    if len(tools) > MOST_TOOLS or size > MOST_BYTES:
        yield found("huge-list", f"{len(tools)} tools, {size // 1024} KiB")


def _some(told: Iterable[str]) -> str:
    every = list(told)
    more = f"; and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return "; ".join(every[:SHOWN]) + more
