"""A tool as a typed async function: what a model reads of it, and what its program is checked against.

The signature comes from the input schema (required parameters first), the result's type from the output schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hub.gateway.code.annotations import Annotations, camel, identifier
from hub.upstream.jsonrpc import mapping

HEADER = "from typing import Any, Literal, NotRequired, TypedDict\n"

LONGEST_DESCRIPTION = 1000
"""Characters of a tool's description that a model is shown: it chose the tool by a search over all of it."""

LONGEST_NOTE = 200
"""Characters of a parameter's description."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: the name in Python, the property it fills, its annotation, and what its description says."""

    name: str
    key: str
    annotation: str
    required: bool
    note: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A tool as a function. `classes` are the typed dictionaries that it mentions."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    classes: tuple[str, ...]
    description: str
    open: bool
    """It takes arguments beside those that are declared."""

    def line(self) -> str:
        """The function's first line."""
        told = [f"{one.name}: {one.annotation}{'' if one.required else ' = ...'}" for one in self.parameters]
        if self.open:
            told.append("**more: Any")
        return f"async def {self.name}({', '.join(told)}) -> {self.returns}"

    def stub(self) -> str:
        """What the type checker reads."""
        return "\n".join([*self.classes, f"{self.line()}: ..."])

    def shown(self, module: str) -> str:
        """What a model reads: where it is, its types, and what it does."""
        notes = [f"    {one.name}: {one.note}" for one in self.parameters if one.note]
        text = "\n    ".join(self.description.splitlines())
        body = "\n".join([f'    """{text}', *(["", *notes] if notes else []), '    """'])
        if not notes:
            body = f'    """{text}"""'
        return "\n".join([f"# import {module}", *self.classes, f"{self.line()}:", body])

    def arguments(self, positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        """The tool's arguments from a call's. Raises `TypeError` in Python's own words."""
        if len(positional) > len(self.parameters):
            raise TypeError(
                f"{self.name}() takes {len(self.parameters)} positional arguments but {len(positional)} were given"
            )
        keys = {one.key: one.key for one in self.parameters} | {one.name: one.key for one in self.parameters}
        given = {one.key: value for one, value in zip(self.parameters, positional, strict=False)}
        for name, value in named.items():
            key = keys.get(name, name)
            if name not in keys and not self.open:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")
            if key in given:
                raise TypeError(f"{self.name}() got multiple values for argument {name!r}")
            given[key] = value
        missing = [one.name for one in self.parameters if one.required and one.key not in given]
        if missing:
            raise TypeError(f"{self.name}() is missing {', '.join(map(repr, missing))}")
        return given


def signature(name: str, definition: bytes) -> Signature:
    """A tool's definition, as JSON, read as the function `name`."""
    told = mapping(orjson.loads(definition))
    schema = mapping(told.get("inputSchema"))
    properties = mapping(schema.get("properties"))
    required = schema.get("required")
    needed: set[object] = set(required) if isinstance(required, list) else set()  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - any JSON
    annotations = Annotations(camel(name))
    taken: set[str] = set()
    parameters: list[Parameter] = []
    for key in sorted(properties, key=lambda one: one not in needed):
        one = identifier(key)
        while one in taken:
            one += "_"
        taken.add(one)
        annotation = annotations.parameter(schema, properties[key], camel(key))
        note = " ".join(str(mapping(properties[key]).get("description", "")).split())[:LONGEST_NOTE]
        parameters.append(Parameter(one, key, annotation, key in needed, note))
    output = told.get("outputSchema")
    returns = annotations.of(output, "Result") if mapping(output) else "Any"
    return Signature(
        name=name,
        parameters=tuple(parameters),
        returns=returns,
        classes=tuple(annotations.classes),
        description=_safe(str(told.get("description") or told.get("title") or "")[:LONGEST_DESCRIPTION]),
        open=_is_open(schema, properties),
    )


def module_stub(functions: Iterable[Signature]) -> str:
    """The `.pyi` of a module of these functions."""
    return HEADER + "\n".join(one.stub() for one in functions) + "\n"


def _is_open(schema: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    more = schema.get("additionalProperties")
    return more is True or bool(mapping(more)) or (not properties and more is not False and "properties" not in schema)


def _safe(text: str) -> str:
    """A description that cannot end the docstring it stands in."""
    return text.replace('"""', "'''").strip()
