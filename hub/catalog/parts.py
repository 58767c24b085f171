"""One server's share of a snapshot: its definitions made into targets, as clients of each era are to see them.

A target is made once and kept for as long as its definition and its exposed name stay; what did not change is neither
parsed nor copied again, so that one changed tool among ten thousand costs what one tool costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from hub.catalog import fragments
from hub.catalog.discovery import NAME_KEYS, Definition, param_headers
from hub.catalog.snapshot import Era, Kind, Part, Server, Target

ERAS: tuple[Era, Era] = ("modern", "legacy")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A server's parts, and what they were made from: the same again is not made again."""

    definitions: tuple[Definition, ...]
    eras: frozenset[Era]
    exposed: tuple[str, ...]
    """The exposed name of each definition."""
    own: Part
    """Under the server's own names, for its own endpoint."""
    shared: Part
    """Under the exposed names."""

    def serves(self, definitions: tuple[Definition, ...], eras: frozenset[Era], exposed: tuple[str, ...]) -> bool:
        """Whether it is what these would be compiled to."""
        return self.definitions is definitions and self.eras == eras and self.exposed == exposed


def compiled(
    server: Server, definitions: tuple[Definition, ...], exposed: tuple[str, ...], before: Compiled | None = None
) -> Compiled:
    """The parts of a server, with the targets of the time before wherever they still hold."""
    known = _targets(before)
    names = {id(item): name for item, name in zip(definitions, exposed, strict=True)}
    own: defaultdict[tuple[Era, Kind], list[Target]] = defaultdict(list)
    shared: defaultdict[tuple[Era, Kind], list[Target]] = defaultdict(list)
    for era in ERAS:
        spoken = server.era_for(era)
        for item in definitions:
            if item.era != spoken:
                continue
            name = names[id(item)]
            target = _target(known, server.name, era, item, item.name)
            own[era, item.kind].append(target)
            shared[era, item.kind].append(target if name == item.name else _target(known, server.name, era, item, name))
    return Compiled(definitions, server.eras, exposed, _part(server.name, own), _part(server.name, shared))


def _part(server: str, lists: Mapping[tuple[Era, Kind], Sequence[Target]]) -> Part:
    names: dict[tuple[Kind, str], Target] = {}
    for era in ERAS:
        for (of, kind), targets in lists.items():
            if of == era:
                # The modern definition wins: it is the one whose headers must be mirrored.
                for target in targets:
                    names.setdefault((kind, target.exposed), target)
    return Part(server, {place: tuple(targets) for place, targets in lists.items()}, names)


_Known = dict[tuple[Era, Kind, str, str], tuple[Target, bytes]]
"""By era, kind, own name and exposed name: a target, and the body that it was made from."""


def _targets(before: Compiled | None) -> _Known:
    if before is None:
        return {}
    bodies = {(item.era, item.kind, item.name): item.body for item in before.definitions}
    speaks = {era: era if era in before.eras or not before.eras else next(iter(before.eras)) for era in ERAS}
    return {
        (era, kind, target.name, target.exposed): (target, bodies[speaks[era], kind, target.name])
        for part in (before.own, before.shared)
        for (era, kind), targets in part.listed.items()
        for target in targets
    }


def _target(known: _Known, server: str, era: Era, item: Definition, exposed: str) -> Target:
    target, body = known.get((era, item.kind, item.name, exposed), (None, b""))
    if target is None or body != item.body:
        target = _made(era, server, item, exposed)
    # The same again for the other name or the other era: kept once.
    known[era, item.kind, item.name, exposed] = (target, item.body)
    return target


def _made(era: Era, server: str, item: Definition, exposed: str) -> Target:
    parsed: Mapping[str, Any] = {}
    if any(word in item.body for word in _TELLING):
        parsed = orjson.loads(item.body)
    replace = {} if exposed == item.name else {NAME_KEYS[item.kind]: exposed}
    reads, repeatable = _effects(parsed) if item.kind == "tool" else (True, True)
    return Target(
        server=server,
        kind=item.kind,
        name=item.name,
        exposed=exposed,
        fragment=fragments.rewritten(item.body, replace, _foreign_members(era, item, parsed)),
        digest=item.digest,
        param_headers=param_headers(parsed) if item.kind == "tool" else (),
        reads=reads,
        repeatable=repeatable,
    )


_TELLING = (b"x-mcp-header", b"execution", b"outputSchema", b"annotations", b"\\u")
"""What a definition must hold, as it stands or escaped, for more than its name to matter: few have to be parsed."""


def _effects(tool: Mapping[str, object]) -> tuple[bool, bool]:
    """Whether a tool only reads, and whether it may be repeated, as its server annotates it; silence means neither."""
    said = tool.get("annotations")
    if not isinstance(said, dict):
        return False, False
    hints = cast("dict[str, object]", said)
    reads = hints.get("readOnlyHint") is True
    return reads, reads or hints.get("idempotentHint") is True


def _foreign_members(era: Era, item: Definition, parsed: Mapping[str, object]) -> frozenset[str]:
    """Members that a client of the other era must not see (2025-11-25 schema; experimental tasks of 2025-11-25)."""
    if item.era == era or item.kind != "tool":
        return frozenset()
    if era == "modern":
        return frozenset({"execution"} & parsed.keys())
    schema = parsed.get("outputSchema")
    described_as_object = isinstance(schema, dict) and orjson.dumps(schema.get("type")) == b'"object"'  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - any JSON
    return frozenset() if described_as_object else frozenset({"outputSchema"} & parsed.keys())
