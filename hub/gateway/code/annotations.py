"""A JSON Schema as the Python annotation that a model reads and the type checker checks.

Lossy on the side of leniency: what Python cannot say, or what is nested or repeated beyond the bounds, becomes `Any`.
References are followed within the schema alone, never to a URL.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from hub.upstream.jsonrpc import mapping

DEEPEST = 8
"""Levels of nesting that are written out; nobody reads further."""

MOST_CLASSES = 60
"""Typed dictionaries of one tool; a schema that unfolds into more is generated, not meant to be read."""

MOST_STEPS = 3000
"""Schemas looked at for one tool: references let a small schema unfold without end."""

MOST_LITERALS = 30
"""Values of an enumeration that are written out; a longer one is only its type."""

PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_WORD = re.compile(r"[A-Za-z0-9]+")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


class Annotations:
    """The annotations of one tool's schemas, and the classes that they need, in `classes`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._names: set[str] = set()
        self._referred: dict[int, str] = {}
        self._steps = 0
        self.classes: list[str] = []

    def of(self, schema: object, hint: str) -> str:
        """The annotation of a schema; `hint` is what a class of it would be called."""
        return self._of(schema, schema, hint, 0)

    def parameter(self, root: Mapping[str, Any], schema: object, hint: str) -> str:
        """The annotation of one property of `root`, whose definitions it may refer to."""
        return self._of(root, schema, hint, 0)

    def _of(self, root: object, schema: object, hint: str, depth: int) -> str:
        told = mapping(schema)
        self._steps += 1
        if depth > DEEPEST or self._steps > MOST_STEPS or not told:
            return "Any"
        if isinstance(told.get("$ref"), str):
            return self._referenced(root, told["$ref"], depth)
        literals = _literals(told)
        if literals:
            return literals
        for word in ("anyOf", "oneOf"):
            if isinstance(told.get(word), list):
                return _union(
                    [self._of(root, one, f"{hint}{at or ''}", depth + 1) for at, one in enumerate(told[word])]
                )
        if isinstance(told.get("allOf"), list):
            only = cast("list[object]", told["allOf"])
            return self._of(root, only[0], hint, depth + 1) if len(only) == 1 else "Any"
        kind = told.get("type")
        if isinstance(kind, list):
            kinds = cast("list[object]", kind)
            return _union([self._of(root, told | {"type": one}, hint, depth + 1) for one in kinds])
        if kind == "array":
            items = told.get("items")
            return f"list[{self._of(root, items, hint + 'Item', depth + 1)}]" if items else "list[Any]"
        if kind == "object" or (kind is None and "properties" in told):
            return self._object(root, told, hint, depth)
        return PLAIN.get(kind, "Any") if isinstance(kind, str) else "Any"

    def _object(self, root: object, told: Mapping[str, Any], hint: str, depth: int) -> str:
        properties = mapping(told.get("properties"))
        if not properties:
            more = told.get("additionalProperties")
            return (
                f"dict[str, {self._of(root, more, hint + 'Value', depth + 1)}]" if mapping(more) else "dict[str, Any]"
            )
        if len(self.classes) >= MOST_CLASSES:
            return "dict[str, Any]"
        name = self._named(hint)
        # Its place is taken before its members are written, for they may refer back to it.
        place = len(self.classes)
        self.classes.append("")
        required = told.get("required")
        needed = set(map(str, cast("list[object]", required))) if isinstance(required, list) else set[str]()
        fields = {
            key: self._of(root, one, f"{hint}{camel(key)}", depth + 1) for key, one in list(properties.items())[:200]
        }
        written = {key: text if key in needed else f"NotRequired[{text}]" for key, text in fields.items()}
        self.classes[place] = _class(name, written)
        return name

    def _referenced(self, root: object, reference: str, depth: int) -> str:
        found = _followed(root, reference)
        if found is None:
            return "Any"
        known = self._referred.get(id(found))
        if known is not None:
            return known
        told = mapping(found)
        hint = camel(reference.rpartition("/")[2]) or "Value"
        if not mapping(told.get("properties")):
            # No class of its own, so a loop through it has no name to stop at: the depth stops it.
            return self._of(root, told, hint, depth + 1)
        if len(self.classes) >= MOST_CLASSES:
            return "dict[str, Any]"
        self._referred[id(found)] = _prefixed(self._prefix, hint, self._names)
        return self._object(root, told, hint, depth + 1)

    def _named(self, hint: str) -> str:
        name = _prefixed(self._prefix, hint, self._names)
        self._names.add(name)
        return name


def identifier(name: str) -> str:
    """A name of any form as a Python name: cleaned, never a keyword, never private."""
    cleaned = _NOT_IN_NAMES.sub("_", name).lstrip("_") or "x"
    if cleaned[0].isdigit():
        cleaned = f"n{cleaned}"
    return f"{cleaned}_" if keyword.iskeyword(cleaned) else cleaned


def camel(name: str) -> str:
    """A name as part of a class's name."""
    return "".join(word[:1].upper() + word[1:] for word in _WORD.findall(name))


def _prefixed(prefix: str, hint: str, taken: set[str]) -> str:
    plain = prefix + hint
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}{number}"
    return name


def _class(name: str, fields: Mapping[str, str]) -> str:
    if all(key.isidentifier() and not keyword.iskeyword(key) and not key.startswith("__") for key in fields):
        return f"class {name}(TypedDict):\n" + "\n".join(f"    {key}: {text}" for key, text in fields.items())
    return f"{name} = TypedDict({name!r}, {{{', '.join(f'{key!r}: {text}' for key, text in fields.items())}}})"


def _literals(told: Mapping[str, Any]) -> str:
    """The values of `const` or `enum` where they can be literals, else ""."""
    values = [told["const"]] if "const" in told else told.get("enum")
    if not isinstance(values, list):
        return ""
    listed = cast("list[object]", values)
    if not listed or len(listed) > MOST_LITERALS:
        return ""
    if not all(one is None or isinstance(one, str | bool | int) for one in listed):
        return ""
    if any(isinstance(one, str) and len(one) > 100 for one in listed):
        return ""
    return f"Literal[{', '.join(map(repr, listed))}]"


def _union(parts: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(parts))
    if not distinct or "Any" in distinct or len(distinct) > 12:
        return "Any"
    # None last, as people write it.
    distinct.sort(key=lambda part: part == "None")
    return " | ".join(distinct)


def _followed(root: object, reference: str) -> object | None:
    """What a reference within the schema leads to."""
    if not reference.startswith("#") or len(reference) > 500:
        return None
    found: object = root
    for step in reference[1:].split("/")[1:]:
        found = mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
        if found is None:
            return None
    return found
