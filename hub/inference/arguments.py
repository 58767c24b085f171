"""How a tool's arguments come about where the model is too small to be asked freely.

What the user's words settle is read from them; what is left is decoded under a constraint that makes every output
valid: a text is a span of the user's own words, everything else follows the argument's schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from hub.catalog import schemas

Schema = dict[str, Any]

QUERY_NAMES = frozenset(
    {
        "query",
        "q",
        "question",
        "search",
        "text",
        "prompt",
        "input",
        "message",
        "topic",
        "task",
        "request",
        "instructions",
        "keywords",
        "search_query",
        "content",
    }
)
"""A sole argument of such a name takes the user's whole words."""

SPAN_WORDS, SPANS = 5, 300
"""Longest span offered, and most spans, where an engine knows JSON schemas only."""

_FORMULA_NAMES = re.compile(r"expr|formula|calculation|equation", re.IGNORECASE)
_FORMULA = re.compile(r"[(\d][\d\s.+\-*/()^%×÷]*[)\d]")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Scripts that put no spaces between words."""

_FORMATS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "uri": re.compile(r"https?://[^\s\"'<>]+"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Arguments that the words settle, and the schemas of those that the model must fill in, in order."""

    settled: dict[str, Any]
    open: dict[str, Schema] = field(default_factory=dict[str, Schema])


def plan(schema: Schema, words: str) -> Plan:
    """Split a tool's arguments by what the user's words already say. Optional ones are left out unless said."""
    properties = _properties(schema)
    listed: Any = schema.get("required")
    required = [name for name in cast("list[Any]", listed) if name in properties] if isinstance(listed, list) else []
    wanted = required or (list(properties) if len(properties) == 1 else [])
    settled: dict[str, Any] = {}
    left: dict[str, Schema] = {}
    for name, kind in properties.items():
        if "const" in kind:
            settled |= {name: kind["const"]} if name in wanted else {}
        elif (said := _said(name, kind, words)) is not None:
            settled |= {name: said} if name in wanted or "enum" in kind or "format" in kind else {}
        elif name in wanted and len(wanted) == 1 and takes_whole_words(name, kind):
            settled[name] = words.strip()[: _limit(kind)]
        elif name in wanted:
            left[name] = kind
    return Plan(settled, left)


def evidence(schema: Schema, words: str) -> bool:
    """Whether the words hold something that only such a tool would want: a formula, an address, a date."""
    return any(
        _said(name, kind, words) is not None
        for name, kind in _properties(schema).items()
        if kind.get("format") in _FORMATS or (kind.get("type") == "string" and _FORMULA_NAMES.search(name))
    )


def is_search(schema: Schema) -> bool:
    """Whether a tool takes one free text: what to fall back on for an open question."""
    properties = _properties(schema)
    listed: Any = schema.get("required")
    wanted = cast("list[str]", listed) if isinstance(listed, list) and listed else list(properties)
    return len(wanted) == 1 and wanted[0] in properties and takes_whole_words(wanted[0], properties[wanted[0]])


def takes_whole_words(name: str, kind: Schema) -> bool:
    """Whether an argument is a free text that the user's whole words fill."""
    free = kind.get("type", "string") == "string" and not {"enum", "pattern", "format", "const"} & kind.keys()
    return free and name.lower() in QUERY_NAMES


def grammar(schema: Schema, open_: dict[str, Schema], words: str) -> str:
    """An LLGuidance grammar for the open arguments: texts are spans of the user's words."""
    spans = orjson.dumps(_sayable(words)).decode()
    members: list[str] = []
    rules: list[str] = []
    for number, (name, kind) in enumerate(open_.items()):
        key = orjson.dumps(orjson.dumps(name).decode() + ": ").decode()
        if _is_free_text(kind):
            members.append(f'{key} "\\"" span "\\""')
        else:
            members.append(f"{key} value{number}")
            rules.append(f"value{number}: %json {orjson.dumps(_whole(schema, kind)).decode()}")
    lines = ["%llguidance {}", 'start: "{" ' + ' ", " '.join(members) + ' "}"', *rules]
    if any(map(_is_free_text, open_.values())):
        unit = "substring_chars" if _DENSE.search(words) else "substring_words"
        lines.append(f'span: %regex {{"{unit}": {spans}}}')
    return "\n".join(lines) + "\n"


def constrained(schema: Schema, open_: dict[str, Schema], words: str) -> Schema:
    """The same as a JSON schema, for engines that know no grammars: short spans of the words as an enumeration."""
    spans = _spans(words)
    properties = {
        name: {"type": "string", "enum": spans} if spans and _is_free_text(kind) else kind
        for name, kind in open_.items()
    }
    whole = {"type": "object", "properties": properties, "required": list(open_), "additionalProperties": False}
    return whole | {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def fault(schema: Schema, arguments: Any) -> str:
    """Why arguments do not fit a tool's schema; empty when they do, or when the schema itself is unusable."""
    try:
        return schemas.Schema(schema).complaint(arguments)
    except schemas.Unusable:
        return ""


def _properties(schema: Schema) -> dict[str, Schema]:
    properties: Any = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    found = cast("dict[str, Any]", properties)
    return {name: cast("Schema", kind) if isinstance(kind, dict) else {} for name, kind in found.items()}


def _said(name: str, kind: Schema, words: str) -> Any:
    """The argument's value when the words hold exactly one that can be meant."""
    choices: Any = kind.get("enum")
    if isinstance(choices, list):
        found = [
            choice
            for choice in cast("list[Any]", choices)
            if isinstance(choice, str)
            and choice
            and re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", words, re.IGNORECASE)
        ]
        return found[0] if len(found) == 1 else None
    if kind.get("type") in ("integer", "number"):
        numbers = _NUMBER.findall(words)
        if len(numbers) != 1:
            return None
        return float(numbers[0]) if "." in numbers[0] else int(numbers[0])
    if kind.get("type", "string") != "string":
        return None
    shape = _FORMATS.get(str(kind.get("format")))
    if shape is not None:
        found = shape.findall(words)
        return found[0] if len(found) == 1 else None
    if _FORMULA_NAMES.search(name):
        formulas = [text for text in _FORMULA.findall(words) if re.search(r"[+\-*/^%×÷]", text)]
        return max(formulas, key=len).strip() if formulas else None
    return None


def _is_free_text(kind: Schema) -> bool:
    return kind.get("type") == "string" and not {"enum", "pattern", "format", "const"} & kind.keys()


def _whole(schema: Schema, kind: Schema) -> Schema:
    return kind | {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def _sayable(words: str) -> str:
    """The words without what would need an escape inside a JSON string."""
    return " ".join(re.sub(r'[\x00-\x1f"\\]', " ", words).split()) or " "


def _spans(words: str) -> list[str]:
    said = _sayable(words).split()
    bare = [word.strip(".,;:!?()[]{}。，？！；：") for word in said]
    found: dict[str, None] = {}
    for length in range(1, SPAN_WORDS + 1):
        for start in range(len(said) - length + 1):
            span = " ".join([*said[start : start + length - 1], bare[start + length - 1]])
            if span and len(found) < SPANS:
                found[span] = None
    return list(found)


def _limit(kind: Schema) -> int:
    limit = kind.get("maxLength")
    return limit if isinstance(limit, int) else 10_000
