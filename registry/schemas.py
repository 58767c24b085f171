"""JSON Schemas for people: a readable table of what a tool takes, and a form that makes the arguments.

Local `$ref`s are followed to a bounded depth, remote ones never. What no plain field can hold is a JSON text area.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

Control = Literal["text", "area", "number", "integer", "choice", "truth", "json"]
DEEPEST = 5
"""Levels of nesting that are shown and followed."""
LONGEST_LIST = 200
"""Rows and fields of one schema; more is cut, since a hostile schema may be endless."""
WHOLE = ""
"""The name of the field that holds all arguments as JSON, for a schema without properties."""
PREFIX = "arg."
"""What a tool's argument is called in the form, so that it cannot collide with fields of ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the readable table."""

    path: str
    type: str
    required: bool
    description: str
    bounds: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form, with what was typed and what is wrong with it."""

    name: str
    label: str
    control: Control
    required: bool
    description: str = ""
    choices: tuple[str, ...] = ()
    value: str = ""
    error: str = ""


Schema = dict[str, Any]


def as_schema(value: Any) -> Schema:
    """A schema object; true, false and nonsense are the empty schema."""
    return cast(Schema, value) if isinstance(value, dict) else {}


def settle(schema: Schema, root: Schema, depth: int = 0) -> Schema:
    """A schema with a local reference followed and an `X or null` union reduced to X."""
    if depth > DEEPEST:
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for part in reference[2:].split("/"):
            found = as_schema(found).get(part.replace("~1", "/").replace("~0", "~"))
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return settle(as_schema(found), root, depth + 1) | beside
    for union in ("anyOf", "oneOf"):
        options = schema.get(union)
        if isinstance(options, list):
            real = [
                as_schema(option) for option in cast("list[Any]", options) if as_schema(option).get("type") != "null"
            ]
            if len(real) == 1:
                beside = {name: value for name, value in schema.items() if name != union}
                return settle(real[0], root, depth + 1) | beside
    return schema


def type_of(schema: Schema) -> str:
    """The type as a word: `string`, `array of integer`, `any`."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(str(each) for each in cast("list[Any]", kind))
    if kind == "array":
        inner = as_schema(schema.get("items")).get("type")
        return f"array of {inner}" if isinstance(inner, str) else "array"
    if isinstance(kind, str):
        return kind
    if "enum" in schema or "const" in schema:
        return "enum"
    return "object" if "properties" in schema else "any"


def bounds_of(schema: Schema) -> str:
    """What narrows the type: choices, limits, default."""
    told: list[str] = []
    if isinstance(schema.get("enum"), list):
        told.append(" | ".join(as_json(value) for value in cast("list[Any]", schema["enum"])[:20]))
    told.extend(
        f"{word} {as_json(schema[word])}"
        for word in ("const", "minimum", "maximum", "minLength", "maxLength", "pattern", "format", "default")
        if word in schema
    )
    return ", ".join(told)[:500]


def as_json(value: Any) -> str:
    """A value as compact JSON."""
    return orjson.dumps(value, default=str).decode()


def properties_of(schema: Schema) -> list[tuple[str, Schema]]:
    """The properties of an object schema, in its order."""
    properties = as_schema(schema.get("properties"))
    return [(str(name), as_schema(value)) for name, value in properties.items()][:LONGEST_LIST]


def required_of(schema: Schema) -> frozenset[str]:
    """The names that must be given."""
    names = schema.get("required")
    return frozenset(str(name) for name in cast("list[Any]", names)) if isinstance(names, list) else frozenset()


def rows(schema: Any) -> tuple[Row, ...]:
    """A schema as a flat table; nested properties carry dotted paths."""
    root = as_schema(schema)
    found: list[Row] = []

    def walk(level: Schema, before: str, depth: int) -> None:
        needed = required_of(level)
        for name, raw in properties_of(level):
            if len(found) >= LONGEST_LIST:
                return
            each = settle(raw, root)
            told = str(each.get("description") or each.get("title") or "")
            found.append(Row(before + name, type_of(each), name in needed, told, bounds_of(each)))
            if depth < DEEPEST:
                walk(each, f"{before}{name}.", depth + 1)
                walk(settle(as_schema(each.get("items")), root), f"{before}{name}[].", depth + 1)

    walk(settle(root, root), "", 0)
    return tuple(found)


def fields(schema: Any, typed: Mapping[str, str] | None = None) -> tuple[Field, ...]:
    """The form of a schema, holding what was `typed`; without properties, one field for all arguments."""
    root = as_schema(schema)
    level = settle(root, root)
    needed = required_of(level)
    given = typed or {}
    properties = properties_of(level)
    if not properties:
        return (Field(WHOLE, "", "json", False, value=given.get(WHOLE, "{}")),) if takes_more(level) else ()
    return tuple(field_of(name, settle(raw, root), name in needed, given.get(name)) for name, raw in properties)


def takes_more(level: Schema) -> bool:
    """Whether arguments beyond the declared properties make sense."""
    return level.get("additionalProperties") is not False and bool(
        set(level) - {"type", "$schema", "title", "properties"}
    )


def field_of(name: str, schema: Schema, required: bool, typed: str | None) -> Field:
    """One property as a field; an argument's default is what the form starts with."""
    control, choices = control_of(schema)
    start = ""
    if "default" in schema and schema["default"] is not None:
        default = schema["default"]
        start = default if isinstance(default, str) and control != "json" else as_json(default)
    elif "const" in schema:
        start = schema["const"] if isinstance(schema["const"], str) else as_json(schema["const"])
    label = str(schema.get("title") or name)
    told = str(schema.get("description") or "")
    return Field(name, label, control, required, told, choices, start if typed is None else typed)


def control_of(schema: Schema) -> tuple[Control, tuple[str, ...]]:
    """Which control a schema gets, and the choices where it is one."""
    options = schema.get("enum")
    if isinstance(options, list) and all(isinstance(option, str) for option in cast("list[Any]", options)):
        return "choice", tuple(cast("list[str]", options)[:LONGEST_LIST])
    kind = schema.get("type")
    if kind == "boolean":
        return "truth", ()
    if kind == "integer":
        return "integer", ()
    if kind == "number":
        return "number", ()
    if kind == "string":
        longest = schema.get("maxLength")
        return ("area" if isinstance(longest, int) and longest > 300 else "text"), ()
    return "json", ()


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as it came back: the arguments, or the fields with their errors (keys of the catalogue)."""

    arguments: dict[str, Any]
    fields: tuple[Field, ...]
    ok: bool


def fill(schema: Any, form: Mapping[str, str]) -> Filled:
    """The arguments that a submitted form stands for. Fields of the schema are those of `form` under PREFIX."""
    typed = {name.removeprefix(PREFIX): value for name, value in form.items() if name.startswith(PREFIX)}
    arguments: dict[str, Any] = {}
    checked: list[Field] = []
    for field in fields(schema, typed):
        value, error = value_of(field, typed.get(field.name, ""))
        if not error and field.name == WHOLE and value is not None:
            arguments.update(cast("dict[str, Any]", value))
        elif not error and value is not None:
            arguments[field.name] = value
        checked.append(
            Field(
                field.name,
                field.label,
                field.control,
                field.required,
                field.description,
                field.choices,
                field.value,
                error,
            )
        )
    return Filled(arguments, tuple(checked), not any(field.error for field in checked))


def value_of(field: Field, typed: str) -> tuple[Any, str]:
    """What a field's text means, or the key of what is wrong with it. An empty optional field is left out."""
    if field.control in ("text", "area", "choice"):
        if typed == "":
            return None, "error.needed" if field.required else ""
        if field.control == "choice" and typed not in field.choices:
            return None, "error.choice"
        return typed.replace("\r\n", "\n"), ""
    if not typed.strip():
        return None, "error.needed" if field.required else ""
    try:
        value: Any = orjson.loads(typed.strip())
    except orjson.JSONDecodeError:
        return None, {"number": "error.number", "integer": "error.integer"}.get(field.control, "error.json")
    if field.control == "integer" and (not isinstance(value, int) or isinstance(value, bool)):
        return None, "error.integer"
    if field.control == "number" and (not isinstance(value, (int, float)) or isinstance(value, bool)):
        return None, "error.number"
    if field.control == "truth" and not isinstance(value, bool):
        return None, "error.choice"
    if field.name == WHOLE and not isinstance(value, dict):
        return None, "error.object"
    return cast(Any, value), ""
