"""The audit spool: a context manager around each thing done, and an append-only segment per process.

A record is appended with one `write` before the block ends, so a killed process loses nothing that was
acknowledged; by default there is no fsync, so a power cut may lose the last seconds. **It fails closed**: a
record that cannot be written raises `Unavailable`, and until one can be written again every block is refused
before its body runs.
"""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Protocol

import orjson

from hub.audit.chain import SEGMENT_OPEN, ending, seal, segments_of
from hub.audit.indexer import Indexer
from hub.db.engine import Database
from hub.errors import Forbidden, HubError, Unauthenticated, Unavailable
from hub.ids import Clock, system_clock

SEGMENT_BYTES = 16 * 2**20
"""Where a segment ends and the next begins: small enough to verify, copy or delete by itself."""

LONGEST_FIELD = 1000
"""Characters of a name, and of a reason, that are kept: a line stays far below `chain.LONGEST_LINE`."""

MOST_WORDS = 4096
"""Beginnings of lines kept, some 300 bytes each: who did what where with which outcome repeats, the rest is short."""

SUBJECT_UNKNOWN = ""


class Actor(Protocol):
    """Whoever acts, as far as the audit cares: a `Principal`, which lives above this layer."""

    @property
    def subject(self) -> str:
        """Unique and stable."""
        ...

    @property
    def on_behalf_of(self) -> str:
        """The subject that it acts for; empty when for itself."""
        ...


class Recording:
    """One thing being done. Set `outcome` and `detail` inside the block; `server` and `target` as they become known.

    Without an exception the outcome is `ok` unless set; with one it is `cancelled`, `denied`, the error's own
    code, or `internal`, and the detail is the error's true reason.
    """

    __slots__ = ("_audit", "_started", "detail", "event", "outcome", "principal", "server", "target", "trace", "via")

    def __init__(self, audit: Audit, event: str, principal: Actor | None, server: str, target: str, trace: str) -> None:
        self._audit = audit
        self._started = 0.0
        self.event = event
        self.principal = principal
        self.server = server
        self.target = target
        self.trace = trace
        self.outcome = ""
        self.detail = ""
        self.via = ""
        """Which tool of the hub's own called this for its caller; stands before the detail."""

    def __enter__(self) -> Recording:
        """Start the watch. Raises `Unavailable` when records cannot be written at present."""
        self._audit.ensure_writable()
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Append the record. Raises `Unavailable` when that fails, unless the body raised already."""
        milliseconds = (perf_counter() - self._started) * 1000
        if error is not None:
            self.outcome = outcome_of(error)
            self.detail = self.detail or _reason_of(error)
            if isinstance(error, HubError) and self.trace:
                # Its caller is told the id under which the true reason stands here.
                error.trace = self.trace
        try:
            self._audit.append(self, milliseconds)
        except Unavailable:
            # The body's own error, a cancellation above all, must not be replaced: the caller gets no answer anyway.
            if error is None:
                raise


class Audit:
    """The spool of one process. Appending is safe from any thread."""

    def __init__(
        self,
        folder: Path,
        process: str,
        clock: Clock = system_clock,
        *,
        durable: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """`process` names the chain (letters, digits, dashes); `durable` adds an fsync to every record."""
        self.folder: Final = folder
        self.process: Final = process
        self._clock = clock
        self._durable = durable
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._descriptor = -1
        self._segment = ""
        self._size = 0
        self._number = 0
        self._hash = ""
        self._broken = False
        self._sequence = 0
        self._started = datetime.fromtimestamp(clock(), UTC).strftime("%Y%m%dT%H%M%S%f")
        self._words: dict[tuple[str, str, str, str, str, str], bytes] = {}
        self._second, self._moment = -1, b""

    def recording(
        self, event: str, principal: Actor | None, *, server: str = "", target: str = "", trace: str = ""
    ) -> Recording:
        """A `with` block around something done by `principal` (None: nobody that is known)."""
        return Recording(self, event, principal, server, target, trace)

    def ensure_writable(self) -> None:
        """Raise `Unavailable` when the last record failed and a new segment cannot be begun either."""
        if self._broken:
            with self._lock:
                self._recover()

    def append(self, recording: Recording, milliseconds: float) -> None:
        """Write one record now. Raises `Unavailable`."""
        actor = recording.principal
        key = (
            recording.event,
            actor.subject if actor else SUBJECT_UNKNOWN,
            actor.on_behalf_of if actor else "",
            recording.server,
            recording.target,
            recording.outcome or "ok",
        )
        words = self._words.get(key) or self._worded(key)
        trace = _json(recording.trace[:LONGEST_FIELD])
        told = _told(recording)
        detail = _json(told[:LONGEST_FIELD]) if told else b'""'
        # Put together from bytes: 2 µs less a call than a dictionary through a JSON writer.
        members = b'%b,"milliseconds":%.3f,"trace":%b,"detail":%b' % (words, milliseconds, trace, detail)
        with self._lock:
            self._recover()
            self._write(members)

    def _worded(self, key: tuple[str, str, str, str, str, str]) -> bytes:
        names = ("event", "subject", "on_behalf_of", "server", "target", "outcome")
        words = b",".join(
            b'"%b":%b' % (name.encode(), _json(value[:LONGEST_FIELD])) for name, value in zip(names, key, strict=True)
        )
        if sum(map(len, key)) <= LONGEST_FIELD:
            while len(self._words) >= MOST_WORDS:
                self._words.pop(next(iter(self._words)), None)
            self._words[key] = words
        return words

    async def index_forever(self, database: Database) -> None:
        """Keep the index of the whole folder up to date until cancelled: every process's segments, not only ours."""
        await Indexer(self.folder, database).run_forever()

    def close(self) -> None:
        """Give the segment's file back. A later record begins a new segment."""
        with self._lock:
            self._close()

    def _recover(self) -> None:
        """Have a segment that takes records: the present one, or a new one."""
        if self._descriptor >= 0 and not self._broken and self._size < self._segment_bytes:
            return
        try:
            previous, digest = self._segment, self._hash
            self._close()
            if not previous:
                previous, digest = self._inherited()
            self._open(previous, digest)
        except OSError as error:
            self._broken = True
            raise _unwritable(error) from error
        self._broken = False

    def _inherited(self) -> tuple[str, str]:
        """Where the process of this name stopped before: its last segment, and the hash to go on from."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in reversed(segments_of(self.folder, self.process)):
            try:
                end = ending(path)
            except ValueError:
                # Its tail was tampered with: begin anew and let verification say so.
                return path.name, ""
            # One without a record never began (its process was killed just then), so it is no link.
            if end.records:
                return path.name, end.hash
        return "", ""

    def _open(self, previous: str, digest: str) -> None:
        self._sequence += 1
        name = f"{self.process}-{self._started}-{self._sequence}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.folder / name, flags, 0o600)
        self._segment, self._hash, self._number, self._size = name, digest, 0, 0
        try:
            opening = {"event": SEGMENT_OPEN, "previous_segment": previous, "previous_hash": digest}
            self._write(orjson.dumps(opening)[1:-1])
        except Unavailable:
            # A segment that never began is no link of the chain: the next one goes on from the one before it.
            self._close()
            (self.folder / name).unlink(missing_ok=True)
            self._segment = previous
            raise

    def _write(self, members: bytes) -> None:
        moment = self._clock()
        second = int(moment)
        if second != self._second:
            self._second = second
            self._moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
        told = (self._number + 1, self._moment, int((moment - second) * 1000), members)
        line, digest = seal(self._hash, b'{"number":%d,"at":"%b%03d+00:00",%b}' % told)
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                # A full disk takes what fits. What is not whole must not stay: the next line would be glued to it.
                os.ftruncate(self._descriptor, self._size)
                raise OSError(28, "no space left for the whole record")
            if self._durable:
                os.fsync(self._descriptor)
        except OSError as error:
            self._broken = True
            raise _unwritable(error) from error
        self._hash, self._number, self._size = digest, self._number + 1, self._size + len(line)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def outcome_of(error: BaseException) -> str:
    """The word for how something ended that raised `error`."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, (Forbidden, Unauthenticated)):
        return "denied"
    if isinstance(error, HubError):
        # Errors that look like another one to the caller carry the true word as `outcome`.
        return str(getattr(error, "outcome", error.code))
    return "internal"


def _reason_of(error: BaseException) -> str:
    if isinstance(error, HubError):
        return error.reason
    return "" if isinstance(error, asyncio.CancelledError) else type(error).__name__


def _told(recording: Recording) -> str:
    if not recording.via:
        return recording.detail
    return f"via {recording.via}" + (f"; {recording.detail}" if recording.detail else "")


def _json(text: str) -> bytes:
    try:
        return orjson.dumps(text)
    except TypeError:
        # A lone surrogate from somebody's header or path; the record matters more than that character.
        return orjson.dumps(text.encode(errors="replace").decode())


def _unwritable(error: OSError) -> Unavailable:
    return Unavailable(
        "The audit record could not be written, so nothing is done.",
        hint="Free space in, or repair, the audit folder of the hub.",
        reason=f"audit: {error}",
    )
