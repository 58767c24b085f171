"""What a request to the model face must look like, and how a model's defaults and caps change it.

Only what the hub itself relies on is checked; every other field goes to the engine as it came.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.errors import BadRequest
from hub.inference.spec import Model

LOCAL_MAX_TOKENS = 1024
"""For a local engine when neither request nor registration says: a tiny model may never stop by itself."""

MOST_INPUTS = 2048
"""Texts of one embeddings request, as OpenAI has it."""


class Shape(BaseModel):
    """A part of a request: known fields checked, unknown ones let through."""

    model_config = ConfigDict(extra="allow", strict=True)


class Function(Shape):
    """A tool's function."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class RequestTool(Shape):
    """An entry of `tools`."""

    type: Literal["function"]
    function: Function


class RequestMessage(Shape):
    """An entry of `messages`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class StreamOptions(Shape):
    """How to stream."""

    include_usage: bool | None = None


class ChatRequest(Shape):
    """`POST /v1/chat/completions`."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    messages: Annotated[list[RequestMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    tools: list[RequestTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class EmbeddingRequest(Shape):
    """`POST /v1/embeddings`."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """One entry for each vector that is wanted. Raises `BadRequest` for none, too many or an empty one."""
        given = self.input
        if isinstance(given, str):
            entries: list[Any] = [given]
        else:
            entries = [given] if given and isinstance(given[0], int) else [*given]
        if not entries or len(entries) > MOST_INPUTS:
            raise BadRequest(f"input must hold 1 to {MOST_INPUTS} texts.", data={"param": "input"})
        if not all(entries):
            raise BadRequest("input must not hold an empty text.", data={"param": "input"})
        return entries


Request = TypeVar("Request", bound=BaseModel)


def read(body: bytes, shape: type[Request]) -> tuple[Request, dict[str, Any]]:
    """The checked request, and the same as it came. Raises `BadRequest` that names the first wrong field."""
    try:
        given: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest(
            "The body is not JSON.", hint="Send a JSON object with Content-Type: application/json."
        ) from None
    try:
        return shape.model_validate(given), given
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{where or 'body'}: {first['msg']}.", data={"param": where or None}) from None


def for_engine(model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """The request as the engine gets it: its own name for the model, defaults filled in, values lowered to the caps."""
    sent = model.parameters.defaults | {key: value for key, value in given.items() if value is not None}
    sent["model"] = model.asked_as
    limit = "max_completion_tokens" if "max_completion_tokens" in sent else "max_tokens"
    cap = model.parameters.max_tokens
    if isinstance(sent.get(limit), int):
        sent[limit] = min(sent[limit], cap or sent[limit])
    elif cap or model.socket:
        sent[limit] = cap or LOCAL_MAX_TOKENS
    if model.parameters.temperature and isinstance(sent.get("temperature"), int | float):
        lowest, highest = model.parameters.temperature
        sent["temperature"] = min(max(sent["temperature"], lowest), highest)
    return sent
