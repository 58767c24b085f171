"""What an agent is, as people write it: the manifest, checked at the edge.

A manifest is YAML or JSON. Tools are named by where they live (`server/tool`), never by the name that a hub happens
to expose.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match  # pyright: ignore[reportUnknownVariableType]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hub.errors import BadRequest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.*-]+)?")
LONGEST_FILE = 256 * 1024
"""Characters of one bundled file; a manifest is kept in the database, whole packages belong in a server."""


class Limits(BaseModel):
    """Where a run stops, whatever the agent would still like to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(16, ge=1, le=1000, description="Model and tool requests together.")
    tokens: int = Field(60_000, ge=1, description="Input and output tokens of all model requests together.")
    seconds: float = Field(300, gt=0, le=86_400, description="Wall-clock seconds from start to answer.")
    money: float | None = Field(None, gt=0, description="Currency units, where the model's endpoint reports a cost.")


class PlannedCall(BaseModel):
    """A tool call that is made before the model is asked anything: retrieval is planned, not hoped for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str = Field(description="`server/tool`.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments; `{{input.NAME}}` is replaced from the input."
    )
    passages: str = Field("", description="Key of the answer under which passages to cite are listed.")
    required: bool = Field(False, description="Whether the run fails when the call does.")


class Manifest(BaseModel):
    """One agent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    description: str = Field(min_length=1, max_length=2000)
    instructions: str = Field(min_length=1)
    model: str = Field("auto", description="A model's name; `auto` takes the first chat model that the caller may use.")
    tools: tuple[str, ...] = ()
    input: dict[str, Any] = Field(
        default_factory=lambda: {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
        }
    )
    output: dict[str, Any] = Field(
        default_factory=lambda: {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
        }
    )
    limits: Limits = Field(default_factory=lambda: Limits.model_validate({}))
    sandbox: Literal["agent"] = "agent"
    plan: tuple[PlannedCall, ...] = ()
    read_only: bool = Field(False, description="Whether a run changes nothing outside itself.")
    entry: str = Field("", description="Empty for the built-in loop; else `file.py:function`, a file of `files`.")
    files: dict[str, str] = Field(default_factory=dict, description="Files of a coded agent, by relative path.")

    @field_validator("name")
    @classmethod
    def _name_fits(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("a name has 1 to 64 of A-Z a-z 0-9 _ . - and begins with a letter or digit")
        return value

    @field_validator("tools")
    @classmethod
    def _patterns_fit(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not PATTERN.fullmatch(pattern):
                raise ValueError(f"{pattern!r} is not `server` or `server/tool`")
        return value

    @field_validator("input", "output")
    @classmethod
    def _schema_fits(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("type") != "object":
            raise ValueError("the schema's root must be of type object")
        if "$ref" in str(value) and "http" in str(value):
            raise ValueError("a schema may not refer to another document")
        try:
            Draft202012Validator.check_schema(value)
        except SchemaError as error:
            raise ValueError(f"not a JSON schema: {error.message}") from error
        return value

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, value: dict[str, str]) -> dict[str, str]:
        for path, text in value.items():
            if path.startswith("/") or ".." in Path(path).parts or not Path(path).parts:
                raise ValueError(f"{path!r} is not a path inside the agent's folder")
            if len(text) > LONGEST_FILE:
                raise ValueError(f"{path!r} is longer than {LONGEST_FILE} characters")
        return value

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Manifest:
        if self.entry:
            file, _, function = self.entry.partition(":")
            if file not in self.files:
                raise ValueError(f"the entry's file {file!r} is not among the files")
            if not function.isidentifier():
                raise ValueError("the entry is `file.py:function`")
        for call in self.plan:
            server, _, tool = call.tool.partition("/")
            if not tool or not any(matches(pattern, server, tool) for pattern in self.tools):
                raise ValueError(f"the planned tool {call.tool!r} is not among the tools")
        return self


def matches(pattern: str, server: str, tool: str) -> bool:
    """Whether `server` or `server/tool` (a `*` at its end matches any rest) covers a tool."""
    wanted_server, _, wanted = pattern.partition("/")
    if wanted_server != server:
        return False
    if not wanted or wanted == tool:
        return True
    return wanted.endswith("*") and tool.startswith(wanted[:-1])


def fault_of(validator: Draft202012Validator, value: Any) -> str:
    """What is most wrong with a value under a schema; empty when it fits."""
    # best_match is untyped in its library.
    wrong: Any = best_match(validator.iter_errors(value))  # pyright: ignore[reportUnknownVariableType]
    return f"{wrong.json_path}: {wrong.message}" if wrong is not None else ""


def servers_of(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The servers that the patterns name, once each, in their order."""
    return tuple(dict.fromkeys(pattern.partition("/")[0] for pattern in patterns))


def parse(document: str | bytes | dict[str, Any]) -> Manifest:
    """Read a manifest from YAML, JSON or a mapping. Raises `BadRequest` that says what does not fit."""
    try:
        read: Any = yaml.safe_load(document) if isinstance(document, str | bytes) else document
        return Manifest.model_validate(read)
    except yaml.YAMLError as error:
        raise BadRequest(f"The manifest is not YAML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'manifest'}: {fault['msg']}" for fault in error.errors()
        )
        raise BadRequest(f"The manifest does not fit: {faults}", hint="See the agents page of the docs.") from error


def bundled() -> list[Manifest]:
    """The agents that come with the program."""
    folder = Path(__file__).parent / "bundled"
    return [parse(path.read_text("utf-8")) for path in sorted(folder.glob("*.yaml"))]
