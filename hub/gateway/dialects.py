"""A tool's definition in the words that a client takes: a shorter name, a schema without what the client refuses.

What needs no change is passed on to the letter; that is told without parsing, for a page has a thousand definitions.
A schema only becomes wider by it: the server still checks what it is called with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from hub.catalog import fragments
from hub.catalog.naming import Holder, shortened
from hub.catalog.profiles import Profile
from hub.catalog.snapshot import Target
from hub.upstream.jsonrpc import mapping

DEEPEST = 12
"""Levels to which references are written out; what refers to itself ends as "anything"."""

MOST_STEPS = 5000
"""Schemas looked at for one tool."""

UNIONS = ("anyOf", "oneOf", "allOf")
ROOT_MARKS = (b'"anyOf"', b'"oneOf"', b'"allOf"')
DEFINITIONS = ("$defs", "definitions")
FOREIGN_TO_GEMINI = frozenset({"$schema", "$id", "$anchor", "additionalProperties", "patternProperties", "examples"})


def name_for(target: Target, profile: Profile) -> str:
    """What a tool is called towards a client: its exposed name, or a shorter one that is the same at every time."""
    if not profile.longest_name or len(target.exposed) <= profile.longest_name:
        return target.exposed
    return shortened(Holder(target.server, target.kind, target.name), target.exposed, profile.longest_name)


def fitted(target: Target, profile: Profile) -> bytes:
    """A tool's definition as this client takes it."""
    body = target.fragment
    name = name_for(target, profile)
    replace: dict[str, Any] = {} if name == target.exposed else {"name": name}
    drop = frozenset[str]()
    if "output-schema" in profile.gaps and b'"outputSchema"' in body:
        drop = frozenset({"outputSchema"})
    if profile.dialects and _concerned(body, profile):
        schema = mapping(orjson.loads(body)).get("inputSchema")
        changed = adapted(schema, profile)
        if changed != schema:
            replace["inputSchema"] = changed
    return fragments.rewritten(body, replace, drop) if replace or drop else body


def _concerned(body: bytes, profile: Profile) -> bool:
    return (
        "gemini" in profile.dialects
        or any(mark in body for mark in ROOT_MARKS)
        or ("no-references" in profile.dialects and b'"$ref"' in body)
    )


def adapted(schema: Any, profile: Profile) -> Any:
    """An input schema in the client's dialect."""
    told = schema
    if "no-references" in profile.dialects:
        told = _Unfolded(schema).of(schema, 0)
        if isinstance(told, dict):
            told = {key: value for key, value in cast("dict[str, Any]", told).items() if key not in DEFINITIONS}
    if "no-root-unions" in profile.dialects:
        told = _without_root_unions(told)
    return _for_gemini(told, 0) if "gemini" in profile.dialects else told


def _without_root_unions(schema: Any) -> Any:
    """An object with the properties of every branch; required is what all of them require."""
    told = mapping(schema)
    if not any(word in told for word in UNIONS):
        return schema
    merged = {key: value for key, value in told.items() if key not in UNIONS} | {"type": "object"}
    properties = dict(mapping(told.get("properties")))
    required = set(_strings(told.get("required")))
    for word in UNIONS:
        branches = [mapping(one) for one in cast("list[object]", told.get(word) or [])]
        for branch in branches:
            properties = dict(mapping(branch.get("properties"))) | properties
        needed = [set(_strings(branch.get("required"))) for branch in branches]
        if needed:
            required |= set.union(*needed) if word == "allOf" else set.intersection(*needed)
    merged["properties"] = properties
    if required:
        merged["required"] = sorted(required & properties.keys())
    return merged


def _strings(value: object) -> list[str]:
    return [one for one in cast("list[object]", value) if isinstance(one, str)] if isinstance(value, list) else []


class _Unfolded:
    """A schema with its own references written out."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def of(self, schema: Any, depth: int) -> Any:
        self._steps += 1
        if isinstance(schema, list):
            return [self.of(one, depth) for one in cast("list[Any]", schema)]
        if not isinstance(schema, dict):
            return schema
        told = cast("dict[str, Any]", schema)
        reference = told.get("$ref")
        if isinstance(reference, str):
            found = self._found(reference) if depth < DEEPEST and self._steps < MOST_STEPS else None
            beside = {key: value for key, value in told.items() if key != "$ref"}
            return (mapping(self.of(found, depth + 1)) if found is not None else {}) | beside
        return {key: value if key in DEFINITIONS else self.of(value, depth) for key, value in told.items()}

    def _found(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            found = mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
        return found if reference.startswith("#/") else None


def _for_gemini(schema: Any, depth: int) -> Any:
    """The keywords that Gemini's functions take; `const` as an enumeration, arrays with items."""
    if not isinstance(schema, dict) or depth > 50:
        return cast("Any", schema)
    told: dict[str, Any] = {}
    for key, value in cast("Mapping[str, Any]", schema).items():
        if key in FOREIGN_TO_GEMINI:
            continue
        if key == "properties":
            told[key] = {name: _for_gemini(one, depth + 1) for name, one in mapping(value).items()}
        elif key == "const":
            told["enum"] = [value]
        elif key in ("items", "not"):
            told[key] = _for_gemini(value, depth + 1)
        elif key in UNIONS and isinstance(value, list):
            told[key] = [_for_gemini(one, depth + 1) for one in cast("list[Any]", value)]
        else:
            told[key] = value
    if told.get("type") == "array" and not mapping(told.get("items")):
        told["items"] = {"type": "string"}
    return told
