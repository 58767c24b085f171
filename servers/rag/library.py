"""The collection of documents and the one thread that changes it: opens the stores, follows the folder, obeys requests.

A file is read again only when its content's digest changed; one that vanished is removed. Searches run in the caller's
threads and wait for `opened` at most.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from servers.kit import Fault
from servers.rag.chunks import chunks_of
from servers.rag.embed import Embedder
from servers.rag.extract import MAX_BYTES, SUFFIXES, Extracted, Unreadable, extract_file, extract_text
from servers.rag.retrieve import Hit, search
from servers.rag.store import Document, Store, now

log = logging.getLogger("servers.rag")

MAX_FILES = 20_000
"""Files of a folder that are followed."""
_HEAD_START = 0.3
"""Seconds the thread waits before its heavy imports, so that the first `tools/list` does not share the interpreter."""


@dataclass(frozen=True)
class Status:
    """How far the library is. `state`: opening, indexing, ready, failed. `problems` names files that were left out."""

    state: str = "opening"
    done: int = 0
    total: int = 0
    problems: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Changes:
    """What a scan did."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0


class Library:
    """Enter `running()` once; every public method may be called from any thread while inside."""

    def __init__(self, folder: Path, state: Path, embedder: Embedder, rescan_seconds: float = 60.0) -> None:
        self.folder = folder
        self._state = state
        self._embedder = embedder
        self._rescan = rescan_seconds
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue(maxsize=100)
        self._opened = threading.Event()
        self._indexed = threading.Event()
        self._stop = threading.Event()
        self._store: Store | None = None
        self.status = Status()

    @contextmanager
    def running(self) -> Generator[Library]:
        """Own the thread for the length of the block; leaving waits for the document in hand, 30 s at most."""
        worker = threading.Thread(target=self._work, name="library", daemon=True)
        worker.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._opened.set()
            self._indexed.set()
            self._jobs.put(None)
            worker.join(30)

    def wait(self, seconds: float) -> bool:
        """Wait until the first scan is done, `seconds` at most. Returns whether it is."""
        return self._indexed.wait(seconds)

    @property
    def opened(self) -> bool:
        """Whether searches can be answered from what is indexed so far."""
        return self._opened.is_set()

    def store(self) -> Store:
        """The open store. Raises Fault where opening failed or is not done."""
        if self._store is None:
            if self.status.state == "failed":
                raise Fault(
                    f"The document index could not be opened: {self.status.reason}.",
                    code="index-failed",
                    owner="administrator",
                    hint="See this server's log; check that ENTREPOT_STATE_DIR is writable and has space.",
                )
            raise Fault("The document index is still opening.", code="not-ready", hint="Call again in a few seconds.")
        return self._store

    def search(self, query: str, limit: int, language: str = "") -> list[Hit]:
        """The best passages; empty where nothing is about `query`."""
        return search(self.store(), query, self._embedder.encode([query])[0], limit, language)

    def submit(self, job: Callable[[], Any]) -> Future[Any]:
        """Run `job` on the owning thread. Raises Fault where too many wait."""
        future: Future[Any] = Future()
        try:
            self._jobs.put_nowait((job, future))
        except queue.Full:
            raise Fault("Too many changes are waiting.", code="busy", hint="Call again in a minute.") from None
        return future

    def add_text(self, name: str, title: str, text: str) -> Document:
        """Store text given by a caller; the same `name` replaces it. Runs on the owning thread."""
        key = _key("given", name)
        digest = _digest(text.encode())
        return self._put(key, "given", name, f"rag://document/{key}", digest, extract_text(title, text))

    def scan(self, below: str = "") -> Changes:
        """Bring the index in line with the folder, or with the part of it `below`. Runs on the owning thread."""
        store = self.store()
        known = {d.id: d for d in store.documents() if d.origin == "folder"}
        seen: set[str] = set()
        counts: dict[str, int] = dict.fromkeys(("added", "changed", "unchanged", "removed", "failed"), 0)
        problems: list[str] = []
        files = [path for path in self._files() if path.is_relative_to(self.folder / below)]
        self.status = Status("indexing", 0, len(files))
        for number, path in enumerate(files, 1):
            if self._stop.is_set():
                return Changes(**counts)
            relative = path.relative_to(self.folder).as_posix()
            key = _key("folder", relative)
            seen.add(key)
            try:
                outcome = self._file(store, key, relative, path, known.get(key))
            except (Unreadable, OSError) as error:
                outcome = "failed"
                problems.append(f"{relative}: {error if isinstance(error, Unreadable) else type(error).__name__}")
            counts[outcome] += 1
            self.status = replace(self.status, done=number, problems=tuple(problems[:50]))
        for key, document in known.items():
            if key not in seen and (self.folder / document.path).is_relative_to(self.folder / below):
                counts["removed"] += store.remove(key, remember=False)
        self.status = replace(self.status, state="ready")
        return Changes(**counts)

    def _file(self, store: Store, key: str, relative: str, path: Path, known: Document | None) -> str:
        content = _read(path)
        digest = _digest(content)
        if (known and known.digest == digest) or store.was_removed(key, digest):
            return "unchanged"
        extracted = extract_file(path, content)
        if not extracted.blocks:
            raise Unreadable("no text in it")
        self._put(key, "folder", relative, f"rag://document/{key}", digest, extracted)
        return "changed" if known else "added"

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for at, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = (Path(at) / name for name in sorted(names) if not name.startswith("."))
            # A link may lead out of the folder.
            found += [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file() and not p.is_symlink()]
            if len(found) >= MAX_FILES:
                break
        return found[:MAX_FILES]

    def _put(self, key: str, origin: str, path: str, uri: str, digest: str, extracted: Extracted) -> Document:
        chunks = chunks_of(extracted.blocks)
        vectors = self._embedder.encode([chunk.with_context(extracted.title) for chunk in chunks])
        text = extracted.text
        document = Document(
            key, origin, path, uri, extracted.title, extracted.language, digest, len(text), len(chunks), now()
        )
        self.store().put(document, text, chunks, vectors)
        return document

    def _embed_missing(self, store: Store) -> None:
        missing = set(store.unembedded())
        for document in store.documents():
            if document.id not in missing or self._stop.is_set():
                continue
            passages = store.passages_of(document.id)
            texts = [" > ".join((p.title, *(h for h in p.headings if h != p.title))) + "\n" + p.text for p in passages]
            store.embed(document, [passage.id for passage in passages], self._embedder.encode(texts))

    def _work(self) -> None:
        if self._stop.wait(_HEAD_START):
            return
        store: Store | None = None
        try:
            store = Store(self._state)
            self._embedder.load()
            store.open_vectors(self._embedder.name)
            self._store = store
            self._opened.set()
            self._scan_quietly(store)
            self._indexed.set()
            self._serve(store)
        except Exception as error:  # noqa: BLE001 - the thread's border: report, let searches say so
            log.error("library failed", extra={"fields": {"class": type(error).__name__, "reason": str(error)[:300]}})
            self.status = Status("failed", reason=type(error).__name__)
            self._store = None
            self._opened.set()
            self._indexed.set()
        finally:
            self._refuse_waiting()
            if store is not None:
                self._store = None
                store.close()

    def _scan_quietly(self, store: Store) -> None:
        try:
            self._embed_missing(store)
            changes = self.scan()
        except Fault as fault:
            # Remote embeddings may come back; keywords work meanwhile, and the next scan tries again.
            log.warning("scan failed", extra={"fields": {"code": fault.code}})
            self.status = replace(self.status, state="ready", problems=(str(fault),))
            return
        if changes.added or changes.changed or changes.removed or changes.failed:
            log.info("folder scanned", extra={"fields": vars(changes)})

    def _serve(self, store: Store) -> None:
        while not self._stop.is_set():
            try:
                entry = self._jobs.get(timeout=self._rescan)
            except queue.Empty:
                self._scan_quietly(store)
                continue
            if entry is None:
                return
            job, future = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001 - carried to whoever asked
                future.set_exception(error)

    def _refuse_waiting(self) -> None:
        while True:
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                return
            if entry is not None:
                entry[1].cancel()


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES >> 20} MB")
    return content


def _digest(content: bytes) -> str:
    # The version of our chunking is part of it, so that a better one re-reads every file.
    return "1-" + hashlib.sha256(content).hexdigest()


def _key(origin: str, name: str) -> str:
    return hashlib.sha256(f"{origin}:{name}".encode()).hexdigest()[:12]
