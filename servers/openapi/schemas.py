"""From an OpenAPI schema object to JSON Schema 2020-12 that stands alone: local references become `$defs`.

Only known keywords are taken over, so nothing can name a remote schema. What a caller sends is described as it is;
what comes back is described loosely, because answers drift from their descriptions.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, cast

from servers.openapi.document import Document, Unresolvable

Direction = Literal["request", "response"]

MOST_NODES = 4_000
"""Schema objects in one tool: a larger one is of no use to a model, and the hub keeps every definition."""
DEEPEST = 24
LONGEST_TEXT = 1_000
MOST_VALUES = 200

TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_MAPS = ("properties",)
_ONE = ("items", "additionalProperties", "contains", "propertyNames", "not")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_PLAIN = (
    *("format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "minContains"),
    *("maxContains", "contentEncoding", "contentMediaType"),
)
_TEXTUAL = frozenset({"format", "pattern", "contentEncoding", "contentMediaType"})
_NUMERIC = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_TEXTS = ("title", "description")
_LOOSE_ONE = ("items", "additionalProperties")
_LOOSE_PLAIN = ("format",)


class TooMuch(Exception):
    """The schema is beyond the bounds, or none at all."""


class Converter:
    """Schemas of one tool in one direction; collects the `$defs` that they share."""

    def __init__(self, document: Document, direction: Direction) -> None:
        self._document = document
        self._direction = direction
        self._names: dict[str, str] = {}
        self._nodes = 0
        self.definitions: dict[str, Any] = {}

    def converted(self, schema: Any) -> dict[str, Any]:
        """The schema; anything at all (`{}`) where it is beyond the bounds or is not one."""
        before = set(self.definitions)
        try:
            made = self._schema(schema, 0)
            if isinstance(made, dict):
                return made
        except (TooMuch, Unresolvable, RecursionError):
            for name in set(self.definitions) - before:
                del self.definitions[name]
            self._names = {reference: name for reference, name in self._names.items() if name in self.definitions}
        return {}

    def _schema(self, schema: Any, depth: int) -> dict[str, Any] | bool:
        self._nodes += 1
        if depth > DEEPEST or self._nodes > MOST_NODES:
            raise TooMuch
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise TooMuch
        given = cast("dict[str, Any]", schema)
        if isinstance(reference := given.get("$ref"), str):
            return self._reference(reference, given)
        made = self._keywords(given, depth)
        self._types(given, made)
        return self._nullable(given, made)

    def _reference(self, reference: str, given: dict[str, Any]) -> dict[str, Any]:
        name = self._names.get(reference)
        if name is None:
            target = self._document.at(reference)
            name = self._names[reference] = self._new_name(reference)
            # Taken before it is filled: a schema may refer to itself.
            self.definitions[name] = True
            self.definitions[name] = self._schema(target, 0)
        made: dict[str, Any] = {"$ref": f"#/$defs/{name}"}
        if isinstance(text := given.get("description"), str) and text:
            made["description"] = text[:LONGEST_TEXT]
        return made

    def _new_name(self, reference: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", reference.rsplit("/", 1)[-1])[:60] or "schema"
        name, number = stem, 2
        while name in self.definitions:
            name, number = f"{stem}_{number}", number + 1
        return name

    def _keywords(self, given: dict[str, Any], depth: int) -> dict[str, Any]:
        loose = self._direction == "response"
        made: dict[str, Any] = {
            key: text[:LONGEST_TEXT] for key in _TEXTS if isinstance(text := given.get(key), str) and text
        }
        for key in _LOOSE_PLAIN if loose else _PLAIN:
            if key in given and _fitting(key, given[key]):
                made[key] = given[key]
        for key in _LOOSE_ONE if loose else _ONE:
            if isinstance(given.get(key), dict) or (isinstance(given.get(key), bool) and not loose):
                made[key] = self._schema(given[key], depth + 1)
        for key in _LISTS:
            if isinstance(given.get(key), list) and given[key]:
                # Described loosely, more than one of several may fit.
                name = "anyOf" if loose and key == "oneOf" else key
                made[name] = [*made.get(name, []), *(self._schema(item, depth + 1) for item in given[key])]
        for key in _MAPS:
            if isinstance(given.get(key), dict):
                properties = cast("dict[str, Any]", given[key])
                made[key] = {
                    name: self._schema(item, depth + 1)
                    for name, item in properties.items()
                    if not self._of_the_other_direction(item)
                }
        if not loose:
            self._values(given, made)
        return made

    def _of_the_other_direction(self, schema: Any) -> bool:
        mark = "readOnly" if self._direction == "request" else "writeOnly"
        return isinstance(schema, dict) and cast("dict[str, Any]", schema).get(mark) is True

    def _values(self, given: dict[str, Any], made: dict[str, Any]) -> None:
        if isinstance(required := given.get("required"), list):
            properties = cast("dict[str, Any]", given.get("properties") or {})
            names = [str(name) for name in cast("list[Any]", required)]
            kept = [name for name in dict.fromkeys(names) if not self._of_the_other_direction(properties.get(name))]
            made["required"] = kept
        values = cast("list[Any]", given.get("enum")) if isinstance(given.get("enum"), list) else []
        if 0 < len(values) <= MOST_VALUES and all(map(_small, values)):
            made["enum"] = list(values)
        for key in ("const", "default"):
            if key in given and _small(given[key]):
                made[key] = given[key]
        examples = given.get("examples", [given["example"]] if "example" in given else [])
        if isinstance(examples, list) and (kept := [item for item in cast("list[Any]", examples) if _small(item)]):
            made["examples"] = kept[:3]
        for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            # 3.0 has a truth value here that changes the meaning of the other keyword.
            if isinstance(made.get(bound), bool) and made.pop(bound) and limit in made:
                made[bound] = made.pop(limit)

    def _types(self, given: dict[str, Any], made: dict[str, Any]) -> None:
        kinds = given.get("type")
        listed = cast("list[Any]", kinds) if isinstance(kinds, list) else [kinds]
        known = [kind for kind in listed if isinstance(kind, str) and kind in TYPES]
        if known:
            made["type"] = known[0] if len(known) == 1 else list(dict.fromkeys(known))

    def _nullable(self, given: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
        loose = self._direction == "response"
        if not loose and not (self._document.nullable_keyword and given.get("nullable") is True):
            return made
        kind = made.get("type")
        if kind is not None:
            kinds = [kind] if isinstance(kind, str) else cast("list[str]", kind)
            made["type"] = kinds if "null" in kinds else [*kinds, "null"]
            if "enum" in made and None not in made["enum"]:
                made["enum"] = [*made["enum"], None]
            return made
        if not loose and any(key in made for key in ("allOf", "anyOf", "oneOf", "$ref")):
            return {"anyOf": [made, {"type": "null"}]}
        return made


def _fitting(key: str, value: Any) -> bool:
    """Whether a keyword has a value that it may have: what is made here is never judged again as a whole."""
    if key in _TEXTUAL:
        return isinstance(value, str)
    if key.startswith("exclusive") and isinstance(value, bool):
        return True  # as 3.0 has it; turned into a number, or dropped, at the end
    if key == "uniqueItems":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if key == "multipleOf":
        return value > 0
    return key in _NUMERIC or (isinstance(value, int) and value >= 0)


def _small(value: Any) -> bool:
    text = json.dumps(value)
    return len(text) <= LONGEST_TEXT and text.count("[") + text.count("{") <= DEEPEST
