"""Bounded search over log files: time range, level, words, and a regular expression that cannot run away.

A pattern is matched in a process of its own that is killed at its deadline, because the standard library's matcher
can neither be interrupted nor bounded.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from servers.kit import Fault
from servers.logs.sources import LEVELS, Line, LogFile, log_files, newest_lines

PATTERN_SECONDS = 3.0
"""How long a regular expression may take over all its lines."""

_CANDIDATES = 20_000
"""Lines handed to the matcher at most; narrower time, level or words reach further back."""

_MATCHER = (
    "import json,re,sys\n"
    "job=json.load(sys.stdin)\n"
    "p=re.compile(job['pattern'],re.I)\n"
    "json.dump([i for i,t in enumerate(job['lines']) if p.search(t)],sys.stdout)\n"
)


@dataclass(frozen=True)
class Query:
    """What to look for. Words must all occur, `-word` must not; `least` is the lowest level; times are UTC."""

    sources: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    pattern: str = ""
    least: str = ""
    after: datetime | None = None
    before: datetime | None = None

    def accepts(self, line: Line) -> bool:
        """Everything but the pattern."""
        if self.least and (line.level not in LEVELS or LEVELS.index(line.level) < LEVELS.index(self.least)):
            return False
        if (self.after or self.before) and line.at is None:
            return False
        if self.after and line.at and line.at < self.after:
            return False
        if self.before and line.at and line.at >= self.before:
            return False
        text = line.raw.casefold()
        return all(word in text for word in self.words) and not any(word in text for word in self.without)


@dataclass(frozen=True)
class Found:
    """Lines, newest first; `scanned` bytes were read, and `complete` says whether nothing was left unread."""

    lines: list[Line]
    scanned: int
    complete: bool


@dataclass
class Budget:
    """Bytes that a search may still read."""

    left: int
    spent: int = field(default=0)
    passed: bool = field(default=False)


def words_of(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a query into wanted and unwanted words; quotes keep a phrase together."""
    try:
        parts = shlex.split(text)
    except ValueError:
        parts = text.split()
    wanted = tuple(part.casefold() for part in parts if not (part.startswith("-") and len(part) > 1))
    return wanted, tuple(part[1:].casefold() for part in parts if part.startswith("-") and len(part) > 1)


def search(folder: Path, query: Query, limit: int, budget: int) -> Found:
    """The newest `limit` lines that fit `query`, reading at most about `budget` bytes. Raises Fault."""
    purse = Budget(budget)
    wanted = limit if not query.pattern else _CANDIDATES
    found: list[Line] = []
    for file in _chosen(folder, query):
        matches = _matches(file, query, purse)
        # One busy file must not crowd out the newer lines of another: collect per file, order afterwards.
        for count, line in enumerate(matches, 1):
            found.append(line)
            if count >= wanted:
                break
    found.sort(key=lambda line: (line.at is not None, line.at.timestamp() if line.at else 0.0), reverse=True)
    if query.pattern:
        found = _filtered(query.pattern, found[:_CANDIDATES])
    return Found(found[:limit], purse.spent, not purse.passed and len(found) <= limit)


def statistics(folder: Path, query: Query, budget: int) -> tuple[Counter[tuple[str, str]], Counter[str], Found]:
    """Counts by (source, level), the most frequent message shapes of warnings and errors, and what was read."""
    purse = Budget(budget)
    counts: Counter[tuple[str, str]] = Counter()
    shapes: Counter[str] = Counter()
    for file in _chosen(folder, query):
        for line in _matches(file, query, purse):
            counts[line.source, line.level or "none"] += 1
            if line.level in ("warning", "error", "critical") and len(shapes) < 5000:
                shapes[shape(line.message)] += 1
    return counts, shapes, Found([], purse.spent, not purse.passed)


def shape(message: str) -> str:
    """A message with its numbers and ids taken out, so that repetitions count together."""
    return re.sub(r"\b[0-9a-f]{8,}\b|\d+", "#", message[:300], flags=re.IGNORECASE)


def _chosen(folder: Path, query: Query) -> list[LogFile]:
    files = log_files(folder)
    known = {file.source for file in files}
    if unknown := [name for name in query.sources if name not in known]:
        raise Fault(
            f"No such log source: {', '.join(name[:80] for name in unknown)}.",
            code="unknown-source",
            hint="Call list_log_sources for the names.",
        )
    return [
        file
        for file in files
        if (not query.sources or file.source in query.sources) and not (query.after and file.changed < query.after)
    ]


def _matches(file: LogFile, query: Query, purse: Budget) -> Iterator[Line]:
    if purse.left <= 0:
        purse.passed = True
        return
    allowed = purse.left
    last = 0
    for read, line in newest_lines(file, allowed):
        purse.left -= read - last
        purse.spent += read - last
        last = read
        if query.after and line.at and line.at < query.after:
            return
        if query.accepts(line):
            yield line
    if not file.compressed and last < file.size and last >= allowed:
        purse.passed = True


def _filtered(pattern: str, lines: list[Line]) -> list[Line]:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise Fault(
            f"The pattern is not a regular expression: {error}.",
            code="bad-pattern",
            hint="Correct it, or use `query` with plain words.",
        ) from error
    job = json.dumps({"pattern": pattern, "lines": [line.raw[:4000] for line in lines]})
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHER],
            input=job.encode(),
            capture_output=True,
            timeout=PATTERN_SECONDS,
            check=True,
            env={},
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(
            f"The pattern took longer than {PATTERN_SECONDS:g} s and was stopped.",
            code="pattern-too-slow",
            hint="Avoid nested repetition such as (a+)+, or narrow the search by time, level or words.",
        ) from error
    except subprocess.CalledProcessError as error:
        raise Fault("The pattern could not be matched.", code="bad-pattern", hint="Simplify it.") from error
    return [lines[index] for index in json.loads(done.stdout)]
