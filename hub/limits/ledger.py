"""Quotas on disk: one appended line per change, so that a killed process loses none; rewritten short now and then.

A line is in the kernel before the calls that it counts may be spent. There is no fsync: a power cut costs the last
seconds' count, never the file.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from hub.limits.accounts import QuotaAccount
from hub.limits.bounds import Quota, read, term, written

log = logging.getLogger(__name__)

LONGEST = 4 * 2**20
"""Bytes after which the file is written anew with one line per quota."""


@dataclass(frozen=True, slots=True)
class Line:
    """One quota: its key and bound, when its period began, and what is used of it."""

    key: str
    bound: Quota
    begin: int
    count: int


class Ledger:
    """The file. One process writes it: the coordinator, or the only worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Line] = {}
        self._file = -1
        self._size = 0
        self._told = False

    def load(self) -> list[Line]:
        """What is written of periods that are not over; the file is made short first. Bad lines are passed over."""
        moment = time.time()
        for line in self._lines():
            if line.begin == term(line.bound.period, moment)[0]:
                self._known[line.key] = line
            else:
                self._known.pop(line.key, None)
        self._rewrite()
        return list(self._known.values())

    def write(self, key: str, account: QuotaAccount) -> None:
        """Note what is used of a quota. A disk that takes nothing is said once in the log; counting goes on."""
        line = Line(key, account.bound, account.term, account.count)
        self._known[key] = line
        body = _body(line)
        if self._size + len(body) > LONGEST:
            self._rewrite()
            return
        try:
            if self._file < 0:
                self._open()
            os.write(self._file, body)
            self._size += len(body)
            self._told = False
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rewrite(self) -> None:
        moment = time.time()
        kept = {key: line for key, line in self._known.items() if line.begin == term(line.bound.period, moment)[0]}
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, b"".join(_body(line) for line in kept.values()))
                os.fsync(file)
            finally:
                os.close(file)
            fresh.replace(self._path)
            self.close()
            self._open()
        except OSError as error:
            self._complain(error)
        self._known = kept

    def _lines(self) -> Iterator[Line]:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(error)
            return
        for row in text.splitlines():
            try:
                key, told, begin, count = orjson.loads(row)
                bound = read(told)
            except (ValueError, TypeError):
                # The last line of a machine that lost its power.
                continue
            if isinstance(bound, Quota):
                yield Line(str(key), bound, int(begin), int(count))

    def _complain(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            log.error("quotas cannot be kept in %s: %s", self._path, error)


def _body(line: Line) -> bytes:
    return orjson.dumps([line.key, written(line.bound), line.begin, line.count], option=orjson.OPT_APPEND_NEWLINE)
