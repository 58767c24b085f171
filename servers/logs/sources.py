"""Which log files there are, and how their lines read: JSON lines of our own processes, plain text of children.

Files are read from their end, within a budget of bytes, never through a link. What a line says is not trusted.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

LEVELS = ("debug", "info", "warning", "error", "critical")

_NAME = re.compile(r"^(?P<source>[\w.@+-]{1,120}?)\.(?:log|jsonl)(?:[.-](?P<turn>\d{1,14}))?(?P<gz>\.gz)?$")
_TIME = re.compile(r"^\W{0,2}(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b", re.IGNORECASE)
_SYNONYMS = {"warn": "warning", "fatal": "critical", "err": "error", "notice": "info", "trace": "debug"}
_CHUNK = 256 * 1024
_LONGEST = 64 * 1024
"""Bytes of one line that are looked at; the rest of a longer line is dropped."""


@dataclass(frozen=True)
class LogFile:
    """One file of a source. `turn` orders rotated files; the live one has none. Size in bytes, changed in UTC."""

    source: str
    path: Path
    size: int
    changed: datetime
    compressed: bool


@dataclass(frozen=True)
class Line:
    """One log line, unredacted; it must pass `redact` before it leaves the server."""

    at: datetime | None
    level: str
    source: str
    message: str
    detail: str
    raw: str


def log_files(folder: Path) -> list[LogFile]:
    """Every log file directly in `folder`, the most recently written first. A missing folder has none."""
    found: list[LogFile] = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        match = _NAME.match(entry.name)
        if match is None:
            continue
        try:
            facts = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(facts.st_mode):
            changed = datetime.fromtimestamp(facts.st_mtime, UTC)
            found.append(LogFile(match["source"], Path(entry.path), facts.st_size, changed, match["gz"] is not None))
    return sorted(found, key=lambda file: (file.changed, file.path.name), reverse=True)


def newest_lines(file: LogFile, budget: int) -> Iterator[tuple[int, Line]]:
    """Yield (bytes read so far, line) from the end of `file` to its start, reading about `budget` bytes at most.

    A plain line without a time of its own (a traceback) takes the time of the line above it. A file that vanishes
    or turns out unreadable simply ends.
    """
    pending: list[tuple[int, Line]] = []
    for read, raw in _backwards(file, budget):
        if not raw.strip():
            continue
        line = parse(raw.decode("utf-8", "replace"), file.source)
        if line.at is None:
            pending.append((read, line))
            if len(pending) < 1000:
                continue
        for seen, below in pending:
            yield seen, replace(below, at=line.at, level=below.level or line.level)
        pending.clear()
        if line.at is not None:
            yield read, line
    yield from pending


def _backwards(file: LogFile, budget: int) -> Iterator[tuple[int, bytes]]:
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as stream:
        if file.compressed:
            yield from _backwards_gzip(stream, budget)
        else:
            yield from _backwards_plain(stream, budget)


def _backwards_plain(stream: BinaryIO, budget: int) -> Iterator[tuple[int, bytes]]:
    position = stream.seek(0, os.SEEK_END)
    read = 0
    rest = b""
    while position > 0 and read < budget:
        size = min(_CHUNK, position)
        position -= size
        stream.seek(position)
        chunk = stream.read(size)
        read += len(chunk)
        first, *complete = (chunk + rest).split(b"\n")
        for line in reversed(complete):
            yield read, line[:_LONGEST]
        rest = first[: 2 * _CHUNK]
    if position == 0 and rest:
        yield read, rest[:_LONGEST]


def _backwards_gzip(stream: BinaryIO, budget: int) -> Iterator[tuple[int, bytes]]:
    # A packed file has no end to seek to; unpack at most the budget, so that a bomb stays small.
    try:
        content = gzip.GzipFile(fileobj=stream).read(budget)
    except (OSError, EOFError, zlib.error):
        return
    for line in reversed(content.split(b"\n")):
        yield len(content), line[:_LONGEST]


def parse(raw: str, source: str) -> Line:
    """Read one line: a JSON object with the platform's keys, or text that may begin with a time and name a level."""
    raw = raw.rstrip("\r")
    if raw.startswith("{"):
        try:
            value: object = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return _from_json(cast("dict[str, Any]", value), raw, source)
    level = _LEVEL.search(raw[:200])
    return Line(_plain_time(raw), _level(level[1]) if level else "", source, raw, "", raw)


def _from_json(value: dict[str, Any], raw: str, source: str) -> Line:
    def taken(*names: str) -> Any:
        for name in names:
            if (found := value.pop(name, None)) is not None:
                return found
        return ""

    at = taken("at", "timestamp", "time", "ts")
    level = _level(str(taken("level", "severity", "levelname")))
    message = str(taken("message", "msg", "event"))
    inner = str(taken("source", "logger"))
    if inner:
        value["logger"] = inner
    detail = json.dumps(value, ensure_ascii=False, default=str) if value else ""
    return Line(moment(at), level, source, message, detail, raw)


def _level(word: str) -> str:
    word = word.lower()
    return _SYNONYMS.get(word, word if word in LEVELS else "")


def moment(value: object) -> datetime | None:
    """A time from an ISO 8601 text or seconds since 1970; None where it is neither. Without a zone it is UTC."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        parsed = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _plain_time(raw: str) -> datetime | None:
    match = _TIME.match(raw)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    return moment(f"{day}T{clock}.{(fraction or '0')[:6].ljust(6, '0')}{zone or '+00:00'}")
