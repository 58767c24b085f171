"""What a model is: the declared form at the edge, and the immutable entry that every request reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from hub.errors import InvalidParams

Kind = Literal["chat", "embedding"]
State = Literal["new", "ready", "degraded", "down"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""No slash: a model's name is one segment of the admin API's paths and of a scope. `remote_name` may have any."""

SHOWN_ONLY = ("name", "state", "reason", "has_key", "created")
"""Fields of a shown model that a declaration may carry and that say nothing."""


class Parameters(BaseModel):
    """Defaults and caps for the requests to one model.

    `defaults` fill what a request leaves out. Values above a cap are lowered to it, as an engine would do itself.
    `planner` says who chooses a tool where the endpoint does not: `ranked` (embeddings and words choose, the model
    fills in) suits models below some billions of parameters, `model` leaves the choice to the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    defaults: dict[str, Any] = Field(default_factory=dict)
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens that one answer may have.")
    temperature: tuple[float, float] | None = Field(default=None, description="Lowest and highest temperature.")
    planner: Literal["ranked", "model"] | None = None
    embedding_model: str = Field(
        default="", description="Name of the embedding model that ranks tools; empty picks one."
    )


class ModelSpec(BaseModel):
    """A model as declared: by `PUT /models/{name}`, in an applied file or by `entrepot up`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    kind: Kind = "chat"
    description: str = Field(default="", max_length=2000)
    url: Annotated[str, StringConstraints(max_length=2000)]
    socket: str = Field(default="", max_length=200)
    remote_name: str = Field(default="", max_length=300)
    api_key: str | None = Field(default=None, max_length=8000, repr=False)
    """None keeps the key that is stored; an empty one removes it."""
    native_tools: bool = True
    facts: dict[str, Any] = Field(default_factory=dict)
    parameters: Parameters = Parameters()
    internal: bool = False
    enabled: bool = True

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")) or any(letter.isspace() for letter in value):
            raise ValueError("must be an http:// or https:// URL, up to and without /chat/completions")
        return value.rstrip("/").removesuffix("/chat/completions").removesuffix("/embeddings")

    @model_validator(mode="after")
    def _key_travels_safely(self) -> ModelSpec:
        if self.socket and not self.url.startswith("http://"):
            raise ValueError("a local socket is spoken to in plain http")
        return self


@dataclass(frozen=True, slots=True)
class Model:
    """A served model name and the endpoint behind it. `api_key` is open here and never prints."""

    name: str
    kind: Kind
    url: str
    socket: str = ""
    remote_name: str = ""
    api_key: str = field(default="", repr=False)
    native_tools: bool = True
    description: str = ""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    parameters: Parameters = Parameters()
    internal: bool = False
    enabled: bool = True
    created: int = 0
    """Seconds since the epoch."""

    @property
    def asked_as(self) -> str:
        """The name that the endpoint knows."""
        return self.remote_name or self.name


def read_spec(name: str, given: ModelSpec | dict[str, Any]) -> ModelSpec:
    """A checked declaration. Raises `InvalidParams` that says which field is wrong and how."""
    if not NAME.fullmatch(name):
        raise InvalidParams(
            f"{name!r} cannot be a model's name.",
            hint="Use letters, digits, dot, dash, colon and underscore; at most 128. remote_name may be anything.",
        )
    if isinstance(given, ModelSpec):
        return given
    try:
        return ModelSpec.model_validate({key: value for key, value in given.items() if key not in SHOWN_ONLY})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "model"
        raise InvalidParams(f"Model {name!r}: {where}: {first['msg']}.", data={"param": where}) from None


def models_from_apply(entries: list[dict[str, Any]]) -> dict[str, ModelSpec]:
    """The `models:` list of an applied file, by name. Raises `InvalidParams` for a bad or repeated entry."""
    specs: dict[str, ModelSpec] = {}
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str):
            raise InvalidParams("Each entry of models needs a name.", data={"param": "models"})
        if name in specs:
            raise InvalidParams(f"Model {name!r} is declared twice.", data={"param": "models"})
        specs[name] = read_spec(name, entry)
    return specs
