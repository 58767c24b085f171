"""Event streams of chat completions: an engine's chunks passed on with their unknown fields, counted on the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import orjson

from hub.inference.relay import ModelFailed, engine_message
from hub.inference.spec import Model
from hub.inference.usage import Tokens, counted, guessed

DONE = b"data: [DONE]\n\n"


def event(value: dict[str, Any]) -> bytes:
    """One event of our own."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


async def payloads(model: Model, pieces: AsyncIterator[bytes], bound: int) -> AsyncGenerator[bytes]:
    """The data of each event (WHATWG event stream, of which only `data` and blank lines matter here).

    Raises `ModelFailed` when one event is larger than `bound` bytes.
    """
    rest = bytearray()
    data: list[bytes] = []
    async for piece in pieces:
        rest += piece
        if len(rest) > bound:
            raise ModelFailed(f"Model {model.name!r} sent an event larger than {bound} bytes.")
        # A carriage return may be half of a line end whose other half is still on its way.
        whole, newline, tail = bytes(rest).rpartition(b"\n")
        if not newline:
            continue
        rest = bytearray(tail)
        for line in (whole + newline).splitlines():
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data.clear()
            if sum(map(len, data)) > bound:
                raise ModelFailed(f"Model {model.name!r} sent an event larger than {bound} bytes.")
    if data:
        yield b"\n".join(data)


class Passage:
    """One streamed answer on its way through: what is sent on, and what was counted."""

    def __init__(self, model: Model, *, usage_wanted: bool, prompt: str) -> None:
        self._model = model
        self._usage_wanted = usage_wanted
        self._prompt = prompt
        self._finished = False
        self._frame: dict[str, Any] = {}
        self._letters: list[str] = []
        self._counted: Tokens | None = None

    @property
    def tokens(self) -> Tokens:
        """What the engine counted, or a guess from the text so far."""
        return self._counted or Tokens(guessed(self._prompt), guessed("".join(self._letters)), estimated=True)

    async def events(self, data: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Events for the caller, without the closing `[DONE]`.

        Raises `ModelFailed` for garbage, for an error inside the stream and for an end before the answer's.
        """
        async for payload in data:
            if payload == b"[DONE]":
                break
            chunk = self._chunk(payload)
            self._note(chunk)
            if self._only_usage(chunk) and not self._usage_wanted:
                continue
            if not self._usage_wanted:
                chunk.pop("usage", None)
            yield event(chunk)
        if not self._finished:
            raise ModelFailed(f"Model {self._model.name!r} ended its answer in the middle.", hint="Try again.")
        if self._usage_wanted and self._counted is None:
            yield event(self._frame | {"choices": [], "usage": self.tokens.wire()})

    def _chunk(self, payload: bytes) -> dict[str, Any]:
        try:
            value: Any = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise ModelFailed(f"Model {self._model.name!r} sent an event that is not JSON.") from error
        if not isinstance(value, dict):
            raise ModelFailed(f"Model {self._model.name!r} sent an event that is not an object.")
        chunk = cast("dict[str, Any]", value)
        if "error" in chunk and not chunk.get("choices"):
            said = engine_message(payload)
            raise ModelFailed(f"Model {self._model.name!r} failed while answering.", hint="Try again.", reason=said)
        if "model" in chunk:
            chunk["model"] = self._model.name
        return chunk

    def _note(self, chunk: dict[str, Any]) -> None:
        self._counted = counted(chunk) or self._counted
        if not self._frame:
            self._frame = {key: chunk[key] for key in ("id", "object", "created", "model") if key in chunk}
        for choice in _objects(chunk.get("choices")):
            self._finished = self._finished or choice.get("finish_reason") is not None
            delta = choice.get("delta")
            text = cast("dict[str, Any]", delta).get("content") if isinstance(delta, dict) else None
            if isinstance(text, str):
                self._letters.append(text)

    def _only_usage(self, chunk: dict[str, Any]) -> bool:
        return not chunk.get("choices") and "usage" in chunk


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", entry) for entry in cast("list[Any]", value) if isinstance(entry, dict)]
