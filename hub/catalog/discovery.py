"""Turns what a look at a server brought back into definitions fit to be listed; the others are left out, with a reason.

One bad definition must not break every client of every other server, so nothing here raises for a server's fault.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from hub.catalog import fragments, lockfile, metaschema, schemas
from hub.upstream.address import Address, Era, Facts, Kind, Survey, Wanted

Look = Callable[[Address, Wanted], Awaitable[Survey]]
"""`hub.upstream.probe.survey` with its collaborators bound."""

MOST_DEFINITIONS = 10_000
"""Per server, era and kind."""
LARGEST_DEFINITION = 2**20
"""Bytes."""
DEEPEST = 64
"""Levels of nesting; real schemas stay below 20."""
LONGEST_NAME = 256
LONGEST_URI = 4_096
MOST_PROBLEMS = 200
"""Reasons kept per server: a flood of bad definitions must not become a flood of text."""

LONGEST_PROBLEM = 500
LARGEST_FACTS = 2**16
"""Bytes of capabilities and of info, and characters of instructions: icons as data URLs are the largest seen."""

NAME_KEYS: Mapping[Kind, str] = {"tool": "name", "prompt": "name", "resource": "uri", "template": "uriTemplate"}
"""The member that identifies a definition, per kind."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition that may be listed, in the server's own bytes on one line."""

    era: Era
    kind: Kind
    name: str
    position: int
    body: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Found:
    """A server as found: facts per era, listable definitions, and what was left out and why."""

    facts: Mapping[Era, Facts]
    definitions: tuple[Definition, ...]
    problems: tuple[str, ...]
    """What was left out, and why."""
    unchecked: tuple[str, ...] = ()
    """Tools that are listed, but whose arguments cannot be checked, and why."""
    transport: str = "http"


def read(survey: Survey, known: Iterable[Definition] = ()) -> Found:
    """Check every definition of a survey. What is `known` word for word was checked before, and is not parsed again."""
    checked: dict[tuple[Kind, bytes], Definition] = {(item.kind, item.body): item for item in known}
    definitions: list[Definition] = []
    problems = [problem[:LONGEST_PROBLEM] for problem in survey.problems[:MOST_PROBLEMS]]
    facts: dict[Era, Facts] = {era: _bounded(era, said, problems) for era, said in survey.facts.items()}
    for (era, kind), bodies in survey.definitions.items():
        seen: set[str] = set()
        if len(bodies) > MOST_DEFINITIONS:
            problems.append(f"{era} {kind}s: only the first {MOST_DEFINITIONS} of {len(bodies)} were taken.")
        for position, body in enumerate(bodies[:MOST_DEFINITIONS]):
            try:
                line = fragments.on_one_line(body)
                twin = checked.get((kind, line))
                if twin is None:
                    # What two eras say alike is checked and kept once.
                    twin = checked[kind, line] = _definition(era, kind, position, body)
                definition = Definition(era, kind, twin.name, position, twin.body, twin.digest)
                if definition.name in seen:
                    raise _Unfit(f"{kind} {definition.name!r}: listed twice; the first was taken.")
            except _Unfit as unfit:
                problems.append(f"{era} {unfit}")
                continue
            seen.add(definition.name)
            definitions.append(definition)
    unchecked = tuple(_unchecked(definitions))
    return Found(facts, tuple(definitions), tuple(problems[:MOST_PROBLEMS]), unchecked, survey.transport)


def param_headers(definition: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The `Mcp-Param-*` headers of a tool, lower-case and without that prefix, with the path of the argument mirrored.

    Raises `ValueError` where a schema breaks the rules for `x-mcp-header` (MCP 2026-07-28, transports).
    """
    found: dict[str, tuple[str, ...]] = {}
    schema = definition.get("inputSchema")
    if isinstance(schema, dict):
        _collect_headers(cast("dict[str, Any]", schema), (), found, reachable=True)
    return tuple(found.items())


def _unchecked(definitions: Iterable[Definition]) -> list[str]:
    """Tools whose input schema cannot be used to check anything. A definition of both eras is looked at once."""
    tools = {item.digest: item for item in definitions if item.kind == "tool"}
    said = ((item, schemas.problem(orjson.loads(item.body)["inputSchema"])) for item in tools.values())
    return [f"tool {item.name!r}: {why}"[:LONGEST_PROBLEM] for item, why in said if why][:MOST_PROBLEMS]


def _bounded(era: Era, said: Facts, problems: list[str]) -> Facts:
    """What a server says of itself, without what is too large to be carried in every snapshot."""
    capabilities: Mapping[str, Any] = said.capabilities
    info: Mapping[str, Any] = said.info
    instructions = said.instructions
    if _size(capabilities) > LARGEST_FACTS:
        problems.append(f"{era} capabilities: larger than {LARGEST_FACTS} bytes; they were left out.")
        capabilities = {}
    if _size(info) > LARGEST_FACTS:
        problems.append(f"{era} server info: larger than {LARGEST_FACTS} bytes; only name and version were kept.")
        info = {key: str(info[key])[:200] for key in ("name", "version") if key in info}
    if len(instructions) > LARGEST_FACTS:
        problems.append(f"{era} instructions: longer than {LARGEST_FACTS} characters; they were cut.")
        instructions = instructions[:LARGEST_FACTS]
    return Facts(capabilities, info, instructions)


def _size(value: Any) -> int:
    """Bytes of a value; what is nested deeper than can be written counts as too large."""
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return LARGEST_FACTS + 1


class _Unfit(Exception):
    """The reason why a definition is left out."""


def _definition(era: Era, kind: Kind, position: int, body: bytes) -> Definition:
    label = f"{kind} number {position + 1}"
    if len(body) > LARGEST_DEFINITION:
        raise _Unfit(f"{label}: larger than {LARGEST_DEFINITION} bytes.")
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Unfit(f"{label}: not readable JSON ({error}).") from error
    if not isinstance(parsed, dict):
        raise _Unfit(f"{label}: not a JSON object.")
    content = cast("dict[str, Any]", parsed)
    name = _name(kind, label, content)
    label = f"{kind} {name!r}"
    if _deeper_than(content, DEEPEST):
        raise _Unfit(f"{label}: nested deeper than {DEEPEST} levels.")
    if kind == "tool":
        _check_tool(label, content)
    try:
        keys = [member.key for member in fragments.members(body)]
    except ValueError as error:
        raise _Unfit(f"{label}: not readable JSON ({error}).") from error
    if len(keys) != len(set(keys)):
        raise _Unfit(f"{label}: a member is given twice, so readers would disagree on its meaning.")
    return Definition(era, kind, name, position, fragments.on_one_line(body), lockfile.digest(content))


def _name(kind: Kind, label: str, content: Mapping[str, Any]) -> str:
    name = content.get(NAME_KEYS[kind])
    longest = LONGEST_NAME if kind in ("tool", "prompt") else LONGEST_URI
    if not isinstance(name, str) or not name:
        raise _Unfit(f"{label}: has no {NAME_KEYS[kind]}.")
    if len(name) > longest:
        raise _Unfit(f"{label}: its {NAME_KEYS[kind]} is longer than {longest} characters.")
    if _CONTROL.search(name) or not name.strip():
        raise _Unfit(f"{label}: its {NAME_KEYS[kind]} holds control characters or only spaces.")
    if kind in ("resource", "template") and not isinstance(content.get("name", ""), str):
        raise _Unfit(f"{label}: its name is not text.")
    if not isinstance(content.get("description") or "", str):
        raise _Unfit(f"{label}: its description is not text.")
    return name


def _check_tool(label: str, content: Mapping[str, Any]) -> None:
    schema = content.get("inputSchema")
    if not isinstance(schema, dict):
        raise _Unfit(f"{label}: has no inputSchema object.")
    if cast("dict[str, Any]", schema).get("type") != "object":
        raise _Unfit(f'{label}: the root of its inputSchema is not of type "object".')
    if said := metaschema.fault(cast("dict[str, Any]", schema)):
        raise _Unfit(f"{label}: its inputSchema is no JSON Schema ({said}).")
    output = content.get("outputSchema", True)
    if not isinstance(output, dict | bool):
        raise _Unfit(f"{label}: its outputSchema is not a schema.")
    if isinstance(output, dict) and (said := metaschema.fault(cast("dict[str, Any]", output))):
        raise _Unfit(f"{label}: its outputSchema is no JSON Schema ({said}).")
    try:
        param_headers(content)
    except ValueError as error:
        raise _Unfit(f"{label}: {error}") from error


def _collect_headers(
    schema: Mapping[str, Any], path: tuple[str, ...], found: dict[str, tuple[str, ...]], *, reachable: bool
) -> None:
    """Walk a schema; below anything but `properties` a header could not be derived from the arguments alone."""
    if "x-mcp-header" in schema:
        header = schema["x-mcp-header"]
        at = ".".join(path) or "the root"
        if not isinstance(header, str) or not _TOKEN.fullmatch(header):
            raise ValueError(f"x-mcp-header of {at} is not a header name.")
        if not reachable or not path:
            raise ValueError(f"x-mcp-header {header!r} of {at} does not stand on a plain chain of properties.")
        if schema.get("type") not in ("integer", "string", "boolean"):
            raise ValueError(f"x-mcp-header {header!r} of {at} needs type integer, string or boolean.")
        if header.lower() in found:
            raise ValueError(f"x-mcp-header {header!r} is used twice.")
        found[header.lower()] = path
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                if isinstance(inner, dict):
                    _collect_headers(cast("dict[str, Any]", inner), (*path, name), found, reachable=reachable)
        elif key in _DATA:
            continue
        else:
            for inner in _schemas_in(value):
                _collect_headers(inner, (*path, key), found, reachable=False)


_DATA = frozenset({"default", "const", "enum", "examples", "example"})
"""Keywords whose values are data, not schemas."""


def _schemas_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [cast("dict[str, Any]", value)]
    if isinstance(value, list):
        return [cast("dict[str, Any]", item) for item in cast("list[Any]", value) if isinstance(item, dict)]
    return []


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            inner
            for item in level
            for inner in (cast("dict[str, Any]", item).values() if isinstance(item, dict) else cast("list[Any]", item))
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
