"""What the rag server keeps: documents, chunks and keywords in SQLite (the truth), vectors in chromadb (derived).

Every method may be called from any thread; one lock keeps them apart. The vectors of another embedder are never
mixed in: each has its own collection, and documents not yet in it are reported by `unembedded`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servers.rag.chunks import Chunk
from servers.rag.keywords import match_expression, terms

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    id TEXT PRIMARY KEY, origin TEXT NOT NULL, path TEXT NOT NULL, uri TEXT NOT NULL, title TEXT NOT NULL,
    language TEXT NOT NULL, digest TEXT NOT NULL, text TEXT NOT NULL, ingested TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    text TEXT NOT NULL, headings TEXT NOT NULL, page INTEGER NOT NULL, first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS chunks_document ON chunks(document);
CREATE VIRTUAL TABLE IF NOT EXISTS keywords USING fts5(body, context, tokenize = "porter unicode61");
CREATE TABLE IF NOT EXISTS embedded (document TEXT NOT NULL, embedder TEXT NOT NULL, PRIMARY KEY (document, embedder));
CREATE TABLE IF NOT EXISTS removed (id TEXT PRIMARY KEY, digest TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Document:
    """A stored document. `origin` is `folder` or `given`; `path` is relative to the folder, or the given name."""

    id: str
    origin: str
    path: str
    uri: str
    title: str
    language: str
    digest: str
    characters: int
    chunks: int
    ingested: str


@dataclass(frozen=True)
class Passage:
    """A stored chunk with the facts of its document that a citation needs."""

    id: int
    document: str
    title: str
    uri: str
    path: str
    language: str
    text: str
    headings: tuple[str, ...]
    page: int
    first_line: int
    last_line: int


class Store:
    """Open with `Store(folder)`; vectors come with `open_vectors`, which is slow. Close with `close`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = threading.RLock()
        self._db = sqlite3.connect(folder / "documents.sqlite", check_same_thread=False, timeout=10)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; PRAGMA synchronous=NORMAL;" + _SCHEMA)
        self._collection: Any = None
        self._client: Any = None
        self._embedder = ""

    def open_vectors(self, embedder: str) -> None:
        """Open the collection that belongs to `embedder`."""
        import chromadb  # noqa: PLC0415 - seconds to import; tools/list must not wait for it
        from chromadb.config import Settings  # noqa: PLC0415 - as above

        settings = Settings(anonymized_telemetry=False, is_persistent=True)
        client = chromadb.PersistentClient(path=str(self._folder / "chroma"), settings=settings)
        name = f"chunks-{embedder}"
        collection = client.get_or_create_collection(
            name,
            embedding_function=None,  # the default one would download a model
            metadata={"hnsw:space": "cosine", "hnsw:search_ef": 200, "hnsw:construction_ef": 200},
        )
        with self._lock:
            self._client, self._collection, self._embedder = client, collection, embedder
            if collection.count() == 0:
                # Somebody removed the vectors' folder: what SQLite believes about it no longer holds.
                self._db.execute("DELETE FROM embedded WHERE embedder = ?", (embedder,))
                self._db.commit()

    def close(self) -> None:
        """Close both stores."""
        with self._lock:
            self._db.close()
            if self._client is not None:
                self._client.close()
                self._client = self._collection = None

    def put(self, document: Document, text: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]]) -> None:
        """Store a document in place of what its id held. Vectors go in before the rows that say that they are there."""
        with self._lock:
            self._forget(document.id)
            self._db.execute(
                "INSERT INTO documents VALUES (?,?,?,?,?,?,?,?,?)",
                (document.id, document.origin, document.path, document.uri, document.title, document.language,
                 document.digest, text, document.ingested),
            )  # fmt: skip
            numbers: list[int] = []
            for chunk in chunks:
                row = self._db.execute(
                    "INSERT INTO chunks (document, text, headings, page, first_line, last_line) VALUES (?,?,?,?,?,?)",
                    (document.id, chunk.text, json.dumps(chunk.headings, ensure_ascii=False), chunk.page,
                     chunk.first_line, chunk.last_line),
                )  # fmt: skip
                number = row.lastrowid or 0
                numbers.append(number)
                context = " ".join((document.title, *chunk.headings))
                self._db.execute(
                    "INSERT INTO keywords (rowid, body, context) VALUES (?,?,?)",
                    (number, " ".join(terms(chunk.text)), " ".join(terms(context))),
                )
            self._add_vectors(document, numbers, vectors)
            self._db.execute("DELETE FROM removed WHERE id = ?", (document.id,))
            self._db.commit()

    def embed(self, document: Document, numbers: Sequence[int], vectors: Sequence[Sequence[float]]) -> None:
        """Add the vectors of a document that another embedder had indexed."""
        with self._lock:
            self._add_vectors(document, numbers, vectors)
            self._db.commit()

    def _add_vectors(self, document: Document, numbers: Sequence[int], vectors: Sequence[Sequence[float]]) -> None:
        if self._collection is None or len(numbers) != len(vectors):
            return
        for at in range(0, len(numbers), 500):
            self._collection.upsert(
                ids=[str(number) for number in numbers[at : at + 500]],
                embeddings=[list(vector) for vector in vectors[at : at + 500]],
                metadatas=[{"document": document.id, "language": document.language}] * len(numbers[at : at + 500]),
            )
        self._db.execute("INSERT OR REPLACE INTO embedded VALUES (?, ?)", (document.id, self._embedder))

    def remove(self, document: str, *, remember: bool) -> bool:
        """Remove a document; with `remember`, the folder's scan will not bring back this version of it."""
        with self._lock:
            found = self._db.execute("SELECT digest FROM documents WHERE id = ?", (document,)).fetchone()
            if found is None:
                return False
            self._forget(document)
            if remember:
                self._db.execute("INSERT OR REPLACE INTO removed VALUES (?, ?)", (document, found[0]))
            self._db.commit()
            return True

    def _forget(self, document: str) -> None:
        numbers = [row[0] for row in self._db.execute("SELECT id FROM chunks WHERE document = ?", (document,))]
        if numbers and self._collection is not None:
            self._collection.delete(ids=[str(number) for number in numbers])
        self._db.executemany("DELETE FROM keywords WHERE rowid = ?", [(number,) for number in numbers])
        for table, column in (("chunks", "document"), ("embedded", "document"), ("documents", "id")):
            self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (document,))

    def was_removed(self, document: str, digest: str) -> bool:
        """Whether a person removed exactly this version."""
        with self._lock:
            row = self._db.execute("SELECT 1 FROM removed WHERE id = ? AND digest = ?", (document, digest)).fetchone()
            return row is not None

    def documents(self) -> list[Document]:
        """All documents by title."""
        with self._lock:
            rows = self._db.execute(
                "SELECT d.id, d.origin, d.path, d.uri, d.title, d.language, d.digest, length(d.text), count(c.id),"
                " d.ingested FROM documents d LEFT JOIN chunks c ON c.document = d.id GROUP BY d.id"
                " ORDER BY d.title, d.id"
            ).fetchall()
        return [Document(*row) for row in rows]

    def text(self, document: str) -> str | None:
        """The whole text of a document."""
        with self._lock:
            row = self._db.execute("SELECT text FROM documents WHERE id = ?", (document,)).fetchone()
        return row[0] if row else None

    def unembedded(self) -> list[str]:
        """Documents whose vectors are missing from the open collection."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM documents WHERE id NOT IN (SELECT document FROM embedded WHERE embedder = ?)",
                (self._embedder,),
            ).fetchall()
        return [row[0] for row in rows]

    def passages(self, numbers: Sequence[int]) -> dict[int, Passage]:
        """Chunks by id."""
        marks = ",".join("?" * len(numbers))
        return {passage.id: passage for passage in self._passages(f"c.id IN ({marks})", numbers)}

    def passages_of(self, document: str) -> list[Passage]:
        """A document's chunks in order."""
        return self._passages("c.document = ? ORDER BY c.id", [document])

    def _passages(self, where: str, values: Sequence[Any]) -> list[Passage]:
        with self._lock:
            rows = self._db.execute(
                "SELECT c.id, d.id, d.title, d.uri, d.path, d.language, c.text, c.headings, c.page, c.first_line,"
                f" c.last_line FROM chunks c JOIN documents d ON d.id = c.document WHERE {where}",
                list(values),
            ).fetchall()
        return [
            Passage(*row[:7], headings=tuple(json.loads(row[7])), page=row[8], first_line=row[9], last_line=row[10])
            for row in rows
        ]

    def by_keywords(self, query: Sequence[str], limit: int, language: str = "") -> list[tuple[int, float]]:
        """(chunk, BM25 score; higher is better), best first; a title or heading counts half as much as the text."""
        if not query:
            return []
        condition = (
            "AND rowid IN (SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document WHERE d.language = ?)"
        )
        with self._lock:
            rows = self._db.execute(
                "SELECT rowid, -bm25(keywords, 1.0, 0.5) AS score FROM keywords WHERE keywords MATCH ?"
                f" {condition if language else ''} ORDER BY score DESC LIMIT ?",
                [match_expression(list(query)), *([language] if language else []), limit],
            ).fetchall()
        return [(row[0], row[1]) for row in rows]

    def occurrences(self, query: Sequence[str]) -> tuple[dict[str, set[int]], int]:
        """For each term the chunks that hold it (the tokenizer stems words), and how many chunks there are."""
        with self._lock:
            total: int = self._db.execute("SELECT count(*) FROM chunks").fetchone()[0]
            held = {
                term: {
                    row[0]
                    for row in self._db.execute("SELECT rowid FROM keywords WHERE keywords MATCH ?", (f'"{term}"',))
                }
                for term in query
            }
        return held, total

    def by_vector(self, vector: Sequence[float], limit: int, language: str = "") -> list[tuple[int, float]]:
        """(chunk, cosine), best first; empty until the vectors are open."""
        with self._lock:
            if self._collection is None or (count := self._collection.count()) == 0:
                return []
            answer = self._collection.query(
                query_embeddings=[list(vector)],
                n_results=min(limit, count),
                include=["distances"],
                where={"language": language} if language else None,
            )
        return [(int(i), 1.0 - d) for i, d in zip(answer["ids"][0], answer["distances"][0], strict=True)]


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
