"""Embeddings: large inputs split for the engine, answers checked before anybody stores them."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any, cast

from hub.errors import BadRequest
from hub.inference.relay import ModelFailed, Relay
from hub.inference.requests import EmbeddingRequest
from hub.inference.spec import Model
from hub.inference.usage import Tokens, counted, guessed

BATCH = 64
"""Texts sent to an engine at once: local engines hold all of a batch in memory."""

DIMENSIONS = "dimensions"


async def embed(relay: Relay, model: Model, request: EmbeddingRequest) -> tuple[dict[str, Any], Tokens]:
    """The answer to an embeddings request, and what it took.

    Raises `BadRequest` for a length the model does not give, `ModelFailed` for vectors that do not fit the request.
    """
    fixed = model.facts.get(DIMENSIONS)
    extra: dict[str, Any] = {}
    if request.dimensions is not None and request.dimensions != fixed:
        if isinstance(fixed, int):
            raise BadRequest(
                f"Model {model.name!r} gives vectors of {fixed} numbers.", data={"param": DIMENSIONS},
                hint="Leave dimensions out.",
            )  # fmt: skip
        extra[DIMENSIONS] = request.dimensions
    rows, tokens = await vectors(relay, model, request.inputs, extra)
    if request.dimensions is not None and len(rows[0]) != request.dimensions:
        raise BadRequest(
            f"Model {model.name!r} gives vectors of {len(rows[0])} numbers.", data={"param": DIMENSIONS},
            hint="Leave dimensions out.",
        )  # fmt: skip
    packed = request.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(row) if packed else row}
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens.input, "total_tokens": tokens.input}
    return {"object": "list", "data": data, "model": model.name, "usage": usage}, tokens


async def vectors(
    relay: Relay, model: Model, inputs: list[str] | list[list[int]], extra: dict[str, Any] | None = None
) -> tuple[list[list[float]], Tokens]:
    """One vector for each input, in order. Raises as `Relay.ask`, and `ModelFailed` for vectors that cannot be used."""
    rows: list[list[float]] = []
    tokens = Tokens()
    for start in range(0, len(inputs), BATCH):
        batch = inputs[start : start + BATCH]
        body = {"model": model.asked_as, "input": batch, "encoding_format": "float"} | (extra or {})
        answer = await relay.ask(model, "/embeddings", body)
        rows += _rows(model, answer, len(batch))
        said = counted(answer)
        tokens += said or Tokens(sum(guessed(text) if isinstance(text, str) else len(text) for text in batch), 0, True)
    if len({len(row) for row in rows}) > 1:
        raise ModelFailed(f"Model {model.name!r} gave vectors of different lengths.")
    return rows, tokens


def _rows(model: Model, answer: dict[str, Any], wanted: int) -> list[list[float]]:
    listed: Any = answer.get("data")
    entries = cast("list[dict[str, Any]]", listed) if isinstance(listed, list) else []
    try:
        found = {int(entry.get("index", place)): _row(entry["embedding"]) for place, entry in enumerate(entries)}
        rows = [found[place] for place in range(wanted)]
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise ModelFailed(f"Model {model.name!r} answered with something that is not {wanted} vectors.") from error
    if not all(row and all(map(math.isfinite, row)) for row in rows):
        raise ModelFailed(f"Model {model.name!r} gave an empty vector or one that is not all numbers.")
    return rows


def _row(value: Any) -> list[float]:
    if isinstance(value, str):
        raw = base64.b64decode(value, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return [float(number) for number in value]


def _packed(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
