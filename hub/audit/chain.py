"""The hash chain over the spool's lines: how a line is sealed, and how a folder is verified. Reads only.

A line is a JSON object whose last member `hash` is SHA-256 over the hash before it and the line without that
member. The first record of a segment names the segment before it and the hash that one ended with. What was
cut off at the end of a chain cannot be seen from the chain alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import orjson

SUFFIX = len(b',"hash":"') + 64 + len(b'"}')
SEGMENT_OPEN = "segment:open"
LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in the spool: the segment, the record's number in it, and what does not fit."""

    segment: str
    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found.

    `torn` names segments whose last line a killed process left unfinished: it was never acknowledged, so `ok` holds.
    """

    ok: bool
    segments: int
    records: int
    faults: tuple[Fault, ...]
    torn: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a segment stops: its last hash, how many whole records it has, and bytes of an unfinished line."""

    hash: str
    records: int
    torn_bytes: int


def seal(previous: str, body: bytes) -> tuple[bytes, str]:
    """The line for a JSON object (bytes, not empty) after `previous`, and its hash."""
    digest = sha256(previous.encode("ascii") + body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body[:-1], digest.encode("ascii")), digest


def unsealed(line: bytes) -> tuple[bytes, str]:
    """The JSON object and the hash that a line (without its newline) carries. Raises `ValueError`."""
    body, digest = line[:-SUFFIX] + b"}", line[-66:-2]
    if len(line) <= SUFFIX or line[-SUFFIX:-66] != b',"hash":"' or not line.endswith(b'"}'):
        raise ValueError("the line carries no hash")
    return body, digest.decode("ascii")


def segments(folder: Path) -> list[Path]:
    """All segments, oldest first (a name holds process, start and number)."""
    return sorted(folder.glob("*.jsonl"), key=_order)


def segments_of(folder: Path, process: str) -> list[Path]:
    """The segments of one process name, oldest first."""
    return [path for path in segments(folder) if path.stem.rsplit("-", 2)[0] == process]


def ending(path: Path) -> Ending:
    """How a segment ends, read from its tail."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 2 * LONGEST_LINE))
        tail = file.read()
    whole, _, torn = tail.rpartition(b"\n")
    last = whole.rpartition(b"\n")[2]
    if not last:
        return Ending("", 0, len(torn))
    body, digest = unsealed(last)
    return Ending(digest, int(orjson.loads(body)["number"]), len(torn))


def verify(folder: Path) -> Report:
    """Recompute every hash and follow every link. Takes about a second for 300,000 records."""
    faults: list[Fault] = []
    torn: list[str] = []
    read: dict[str, _Segment] = {}
    for path in segments(folder):
        segment = read[path.name] = _Segment()
        for line, whole in _lines(path):
            if not whole:
                torn.append(path.name)
                break
            segment.take(line)
            # One tampered line makes every later one fail; the first fault of a segment says it all.
            if segment.fault:
                break
        else:
            if not segment.number:
                torn.append(path.name)
    # Links last: a clock that was set back may have given a later segment the earlier name.
    for name, segment in read.items():
        if segment.fault:
            faults.append(Fault(name, segment.number, segment.fault))
        elif fault := _link_fault(segment, read):
            faults.append(Fault(name, 1, fault))
    records = sum(segment.number - bool(segment.fault) for segment in read.values())
    return Report(not faults, len(read), records, tuple(faults), tuple(torn))


class _Segment:
    """A segment as far as it was read: its last good hash, the link at its head, and the first thing wrong."""

    def __init__(self) -> None:
        self.hash = ""
        self.number = 0
        self.fault = ""
        self.link = ("", "")

    def take(self, line: bytes) -> None:
        self.number += 1
        try:
            body, digest = unsealed(line)
            record = orjson.loads(body)
            if self.number == 1:
                self.hash = str(record["previous_hash"])
                self.link = (str(record["previous_segment"]), self.hash)
            if sha256(self.hash.encode() + body).hexdigest() != digest:
                self.fault = "the record was changed, or one before it was"
            elif record["number"] != self.number:
                self.fault = f"record {record['number']} stands where {self.number} should"
            else:
                self.hash = digest
        except (ValueError, KeyError, TypeError) as error:
            self.fault = f"unreadable: {error}"


def _link_fault(segment: _Segment, read: Mapping[str, _Segment]) -> str:
    name, digest = segment.link
    if not name:
        return ""
    before = read.get(name)
    if before is None:
        return f"the segment before this one, {name}, is missing"
    # A segment with a fault is reported itself; that what follows does not fit then says nothing more.
    return "" if before.fault or before.hash == digest else f"{name} does not end where this segment begins"


def _lines(path: Path) -> Iterator[tuple[bytes, bool]]:
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n"), line.endswith(b"\n")


def _order(path: Path) -> tuple[str, int, str]:
    process, started, number = (path.stem.rsplit("-", 2) + ["", ""])[:3]
    return started, int(number) if number.isdigit() else 0, process
