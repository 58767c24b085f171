"""Input schemas of tools, compiled: arguments are judged in about a microsecond.

A schema is a stranger's text. Nothing it names is fetched, its size and its cost are bounded, and its patterns
cannot backtrack without end. One that cannot be used leaves its tool unchecked, and is told as a problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jsonschema_rs
import orjson

LARGEST_SCHEMA = 256 * 1024
"""Bytes; the largest of real tools seen is 90 KiB, and compiling one of this size takes some 20 ms."""

MOST_STEPS = 10_000
"""Subschemas that one value may be held against. References that double at each step reach 2^30 in 30 lines."""

MOST_WORK = 20_000_000
"""Steps times values of one check: a tenth of a second. What would take longer passes unchecked."""

PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=2**20, dfa_size_limit=2**20)

LONGEST_COMPLAINT = 300


class Unusable(ValueError):
    """The schema cannot be used to check anything; the text says why."""


class Schema:
    """A compiled schema. Raises `Unusable`."""

    __slots__ = ("_steps", "_validate", "is_valid")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        if len(orjson.dumps(schema)) > LARGEST_SCHEMA:
            raise Unusable(f"it is larger than {LARGEST_SCHEMA} bytes")
        self._steps = _steps(schema)
        try:
            # Without `$schema` this is 2020-12, as MCP has it; `format` is a note there, not a rule.
            validator = jsonschema_rs.validator_for(dict(schema), pattern_options=PATTERNS, offline=True)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise Unusable(_first_line(getattr(error, "message", None) or str(error))) from error
        self._validate = validator.validate
        self.is_valid = validator.is_valid

    def too_much(self, body: bytes) -> bool:
        """Whether holding this JSON against it could take too long to be done on the path of a call."""
        # At two bytes each there cannot be more values; only where that could be too many are they counted.
        return self._steps * len(body) > 2 * MOST_WORK and self._steps * (body.count(b",") + 1) > MOST_WORK

    def complaint(self, instance: Any) -> str:
        """What is wrong with an instance, for its author; empty when nothing is. Only the first fault is looked for:
        finding all of a recursive schema's can take time without bound."""
        try:
            self._validate(instance)
        except jsonschema_rs.ValidationError as error:
            where = ".".join(str(step) for step in error.instance_path)
            return (f"{where}: " if where else "") + _first_line(error.message)
        return ""


def problem(schema: Mapping[str, Any]) -> str:
    """Why a schema cannot be used; empty when it can."""
    try:
        Schema(schema)
    except Unusable as error:
        return str(error)
    return ""


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= LONGEST_COMPLAINT else line[:LONGEST_COMPLAINT] + "…"


def _steps(schema: Mapping[str, Any]) -> int:
    """How many subschemas are reached when every local reference is followed. Raises `Unusable` beyond the bound.

    A reference back to where one comes from counts once: the validator remembers those.
    """
    counted: dict[int, int] = {}
    above: set[int] = set()

    def count(node: Any) -> int:
        if isinstance(node, list):
            return sum(count(inner) for inner in cast("list[Any]", node))
        if not isinstance(node, dict) or id(node) in above:  # pyright: ignore[reportUnknownArgumentType] - any JSON
            return 1
        found = cast("dict[str, Any]", node)
        known = counted.get(id(found))
        if known is not None:
            return known
        above.add(id(found))
        steps = 1 + sum(count(inner) for key, inner in found.items() if key not in ("$defs", "definitions"))
        reference = found.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            steps += count(_pointed(schema, reference))
        above.discard(id(found))
        if steps > MOST_STEPS:
            raise Unusable(f"checking one value could take more than {MOST_STEPS} steps")
        counted[id(found)] = steps
        return steps

    return count(schema)


def _pointed(schema: Mapping[str, Any], reference: str) -> Any:
    """What a local JSON pointer leads to, as far as it is one."""
    found: Any = schema
    for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else []:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(name)
        elif isinstance(found, list) and name.isdigit() and int(name) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(name)]
        else:
            return None
    return found
