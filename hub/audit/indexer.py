"""Copies new lines of the spool into the audit index, in batches, in a thread.

SQLite reads the lines itself, in one statement, so the thread does not hold the interpreter: read in Python, a
batch stalled every call of the worker for tens of milliseconds (p99 at 64 connections 90 ms, now under 15).
Resumable and idempotent: what the index holds says where to go on, and a row that is there already stays. A
database that is away costs freshness only. One process runs this for the whole folder; two do no harm.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import orjson
from sqlalchemy import func
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlmodel import col, select

from hub.audit.chain import SEGMENT_OPEN, ending, segments
from hub.audit.models import AuditRow
from hub.db.engine import Database

BATCH_BYTES = 2**20
"""Read from one segment at a time: some 3000 records, tens of milliseconds of the database's write lock."""

PAUSE_SECONDS = 0.5
"""Between batches, also under load: copying each record as it came cost 20 µs of every call, gathered it costs 8."""
BACKLOG, BACKLOG_SECONDS = 2000, 0.02
"""So many records at once mean that more are waiting; then the pause is short."""
OUTAGE_SECONDS = 5.0
COLUMNS = tuple(AuditRow.model_fields)

_MOMENT = (
    "-".join(("[0-9]" * 4, "[0-9]" * 2, "[0-9]" * 2)) + "T" + ":".join(["[0-9]" * 2] * 3) + ".[0-9][0-9][0-9]+00:00"
)
_TEXTS = [name for name in COLUMNS if name not in ("segment", "number", "at", "milliseconds")]
COPY_LINES = f"""
insert into audit (segment, number, at, milliseconds, {", ".join(_TEXTS)})
select ?, json_extract(value, '$.number'),
  replace(substr(json_extract(value, '$.at'), 1, 23), 'T', ' ') || '000',
  coalesce(json_extract(value, '$.milliseconds'), 0.0),
  {", ".join(f"coalesce(json_extract(value, '$.{name}'), '')" for name in _TEXTS)}
from json_each(?)
where json_type(value, '$.event') = 'text' and json_type(value, '$.number') = 'integer'
  and json_extract(value, '$.event') <> '{SEGMENT_OPEN}'
  and json_extract(value, '$.at') glob '{_MOMENT}'
on conflict do nothing
"""
"""All lines of a batch, given as one JSON array: 6 µs a record without the interpreter, 20 with it (SQLite 3.40)."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Place:
    offset: int = 0
    number: int = 0
    """The last record that the index holds."""


class Indexer:
    """Follows all segments of a folder."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database
        self._places: dict[str, _Place] = {}

    async def run_forever(self) -> None:
        """Index until cancelled, pausing when all is done and longer while the database is away."""
        while True:
            try:
                count = await anyio.to_thread.run_sync(self.index_batch)
            except (SQLAlchemyError, OSError) as error:
                log.warning("the audit index is behind: %s", type(error).__name__)
                await anyio.sleep(OUTAGE_SECONDS)
                continue
            await anyio.sleep(BACKLOG_SECONDS if count >= BACKLOG else PAUSE_SECONDS)

    async def catch_up(self) -> int:
        """Index all that is in the spool now; how many records that were."""
        total = 0
        while count := await anyio.to_thread.run_sync(self.index_batch):
            total += count
        return total

    def index_batch(self) -> int:
        """Copy up to one batch of each segment; how many records that were, 0 when nothing is left. Blocks."""
        count = 0
        for path in segments(self._folder):
            place = self._places.get(path.name)
            if place is None:
                place = self._places[path.name] = self._resume(path)
            if path.stat().st_size > place.offset:
                count += self._copy(path, place)
        return count

    def _resume(self, path: Path) -> _Place:
        """Where a segment stands after a restart; a segment indexed whole is not read again."""
        with self._database.session() as session:
            held = session.exec(select(func.max(AuditRow.number)).where(col(AuditRow.segment) == path.name)).one() or 0
        try:
            end = ending(path)
        except ValueError:
            return _Place(0, held)
        return _Place(path.stat().st_size - end.torn_bytes, held) if held >= end.records > 0 else _Place(0, held)

    def _copy(self, path: Path, place: _Place) -> int:
        with path.open("rb") as file:
            file.seek(place.offset)
            read = file.read(BATCH_BYTES)
        whole = read[: read.rfind(b"\n") + 1]
        count, number = self._insert_lines(path.name, whole) or self._insert_rows(path.name, whole, place.number)
        place.offset += len(whole)
        place.number = max(place.number, number)
        # Lines that the index held already count as work too: the next batch of the segment waits behind them.
        return count or (1 if whole else 0)

    def _insert_lines(self, segment: str, whole: bytes) -> tuple[int, int] | None:
        """Have SQLite read the lines: how many, and the last number. None where it cannot (bad lines, no SQLite)."""
        lines = whole.splitlines()
        last = _row(segment, lines[-1]) if lines else None
        if self._database.engine.dialect.name != "sqlite" or last is None:
            return None
        try:
            array = b"[" + b",".join(lines) + b"]"
            with self._database.engine.begin() as connection:
                connection.exec_driver_sql(COPY_LINES, (segment, array.decode()))
        except (OperationalError, UnicodeDecodeError):
            # A line that is no JSON spoils the array, or the database is away: read line by line, it will tell.
            return None
        return len(lines), int(last["number"])

    def _insert_rows(self, segment: str, whole: bytes, known: int) -> tuple[int, int]:
        """The same for any database, line by line: what is no record is left out (verification names it)."""
        rows = [row for line in whole.splitlines() if (row := _row(segment, line)) and row["number"] > known]
        records = [row for row in rows if row["event"] != SEGMENT_OPEN]
        if records:
            self._insert(records)
        return len(records), max((row["number"] for row in rows), default=known)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        # The dialect in use is loaded; the other one would be 2 MB in every worker.
        dialect = import_module(f"sqlalchemy.dialects.{self._database.engine.dialect.name}")
        statement = dialect.insert(AuditRow).on_conflict_do_nothing()
        with self._database.engine.begin() as connection:
            connection.execute(statement, rows)


def _row(segment: str, line: bytes) -> dict[str, Any] | None:
    """The line as a row; None for one that is not a record (verification names it)."""
    try:
        record = orjson.loads(line)
        row = {name: record[name] for name in COLUMNS if name in record}
        row |= {"segment": segment, "number": int(record["number"]), "at": datetime.fromisoformat(record["at"])}
        return row if isinstance(row.get("event"), str) else None
    except (ValueError, KeyError, TypeError):
        return None
