"""Vectors of tools and of questions: asked from the runner's embedding engine, kept in the database by digest.

Which model to believe is measured, not assumed: each is given short descriptions of tools and, in English and in
Chinese, questions for them. The share that it finds is its trust in that language.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import orjson
from sqlalchemy import insert
from sqlmodel import col, select

from hub.catalog.models import ToolVectorRow
from hub.catalog.probes import PROBES
from hub.catalog.search import NAME, Document, Floats, Index, Meaning
from hub.catalog.words import is_dense
from hub.db.engine import Database
from hub.deferred import Deferred
from hub.errors import UpstreamError
from hub.upstream.address import Address
from hub.upstream.http1 import Bounds, Origin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Deferred("numpy")

ENGINE = "http://runner/s/local-embedder/v1/embeddings"
MODELS = ("use-multilingual", "minilm-l6")
"""What the engine has, the cheap one first: it is ready within seconds for thousands of tools."""

QUESTION = Bounds(connect_seconds=0.2, answer_seconds=0.5, answer_bytes=2**20)
"""A question waits this long for its vector, then the words answer alone."""

PASSAGES = Bounds(connect_seconds=2.0, answer_seconds=120.0, answer_bytes=16 * 2**20)
"""The engine may have to start and load a model first."""

BATCH = 8
"""Texts of one request: a question that comes meanwhile waits for no more than these."""

CHUNK = 256
"""Tools between looks at the database, where another worker may have put the same."""


class Engine:
    """The embedding engine over the runner's socket."""

    def __init__(self, socket: Path) -> None:
        self._origin: Origin | None = None
        self._socket = str(socket)

    async def embed(self, model: str, texts: Sequence[str], bounds: Bounds) -> Floats:
        """One vector of length one for each text. Raises `HubError`."""
        if self._origin is None:
            self._origin = Origin(Address(ENGINE, self._socket))
        body = orjson.dumps({"model": model, "input": list(texts), "encoding_format": "base64"})
        headers = [(b"content-type", b"application/json")]
        response = await self._origin.exchange(b"POST", self._origin.path, headers, body, bounds)
        content = await response.read(bounds.answer_bytes)
        if response.status != 200:
            raise UpstreamError(f"The embedding engine answered {response.status}")
        try:
            told: Any = orjson.loads(content)
            if told["model"] != model:
                raise UpstreamError(f"The embedding engine has no {model}")
            rows: list[Floats] = [np.frombuffer(base64.b64decode(one["embedding"]), np.float32) for one in told["data"]]
            return np.stack(rows)
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError("The embedding engine answered with what are no vectors") from error

    def close(self) -> None:
        """Close the connections to it."""
        if self._origin is not None:
            self._origin.close()


class Vectors:
    """What is known of tools' meaning, by model. `fill` works in the background; `question` is fast or fails."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine
        self._trust: dict[str, tuple[float, float]] = {}

    def trust(self, model: str, question: str) -> float:
        """How far a model is to be believed for a question's language; 0 while that is not measured."""
        english, chinese = self._trust.get(model, (0.0, 0.0))
        return chinese if is_dense(question) else english

    async def question(self, model: str, text: str) -> Floats:
        """The vector of a question. Raises `HubError`."""
        return (await self._engine.embed(model, [text], QUESTION))[0]

    async def fill(self, index: Index, model: str) -> Meaning:
        """The vectors of an index's tools, computed where they are not stored yet. Raises `HubError`."""
        if model not in self._trust:
            self._trust[model] = await self._measured(model)
        documents = {one.digest: one for one in index.documents}
        found = await self._stored(model, documents)
        missing = [one for digest, one in documents.items() if digest not in found]
        for start in range(0, len(missing), CHUNK):
            chunk = {one.digest: one for one in missing[start : start + CHUNK]}
            made = await self._stored(model, chunk)
            absent = [one for digest, one in chunk.items() if digest not in made]
            fresh = await self._made(model, absent)
            await anyio.to_thread.run_sync(self._store, model, fresh)
            found |= made | fresh
        return meaning(index, model, found)

    async def kept(self, index: Index, model: str) -> Meaning:
        """The vectors that are stored already."""
        return meaning(index, model, await self._stored(model, {one.digest: one for one in index.documents}))

    async def _made(self, model: str, documents: Sequence[Document]) -> dict[str, NDArray[np.float16]]:
        made: dict[str, NDArray[np.float16]] = {}
        for start in range(0, len(documents), BATCH):
            batch = documents[start : start + BATCH]
            passages = await self._engine.embed(model, [one.passage for one in batch], PASSAGES)
            names = await self._engine.embed(model, [one.name for one in batch], PASSAGES)
            for one, passage, name in zip(batch, passages, names, strict=True):
                made[one.digest] = np.stack((passage, name)).astype(np.float16)
        return made

    async def _measured(self, model: str) -> tuple[float, float]:
        tools = await self._engine.embed(model, [tool for tool, _, _ in PROBES], PASSAGES)
        shares: list[float] = []
        for place in (1, 2):
            asked = await self._engine.embed(model, [probe[place] for probe in PROBES], PASSAGES)
            right = int(np.count_nonzero(np.argmax(asked @ tools.T, axis=1) == np.arange(len(PROBES))))
            shares.append(right / len(PROBES))
        return shares[0], shares[1]

    async def _stored(self, model: str, documents: dict[str, Document]) -> dict[str, NDArray[np.float16]]:
        return await anyio.to_thread.run_sync(self._read, model, list(documents))

    def _read(self, model: str, digests: list[str]) -> dict[str, NDArray[np.float16]]:
        found: dict[str, NDArray[np.float16]] = {}
        with self._database.session() as session:
            for start in range(0, len(digests), 500):
                wanted = col(ToolVectorRow.digest).in_(digests[start : start + 500])
                rows = session.exec(
                    select(ToolVectorRow.digest, ToolVectorRow.body).where(ToolVectorRow.engine == model, wanted)
                )
                for digest, body in rows:
                    found[digest] = np.frombuffer(body, dtype=np.float16).reshape(2, -1)
        return found

    def _store(self, model: str, fresh: dict[str, NDArray[np.float16]]) -> None:
        if not fresh:
            return
        present = self._read(model, list(fresh))
        rows = [
            {"engine": model, "digest": digest, "body": pair.tobytes()}
            for digest, pair in fresh.items()
            if digest not in present
        ]
        if rows:
            with self._database.session() as session:
                session.connection().execute(insert(ToolVectorRow), rows)

    def close(self) -> None:
        """Close the connections to the engine."""
        self._engine.close()


def meaning(index: Index, model: str, found: dict[str, NDArray[np.float16]]) -> Meaning:
    """One vector for each tool: its passage's, moved towards its name's as far as the names say something."""
    known = np.array([one.digest in found for one in index.documents], dtype=np.bool_)
    dimensions = next((pair.shape[1] for pair in found.values()), 1)
    matrix = np.zeros((len(known), dimensions), dtype=np.float32)
    for row, one in enumerate(index.documents):
        pair = found.get(one.digest)
        if pair is not None:
            matrix[row] = pair[0].astype(np.float32) + NAME * index.wordy * pair[1].astype(np.float32)
    # To length one again, or a tool whose name says something else than its text would be far from everything.
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    return Meaning(model, matrix, known)
