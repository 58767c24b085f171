"""Copies new lines of the spool into the audit index, in batches, in a thread.

Resumable and idempotent: what the index holds says where to go on, and a row that is there already stays. A
database that is away costs freshness only. One process runs this for the whole folder; two do no harm.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import orjson
from sqlalchemy import func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from hub.audit.chain import SEGMENT_OPEN, ending, segments
from hub.audit.models import AuditRow
from hub.db.engine import Database

BATCH_BYTES = 2**20
"""Read from one segment at a time: some 3000 records, tens of milliseconds of the database's write lock."""

PAUSE_SECONDS = 0.5
OUTAGE_SECONDS = 5.0
COLUMNS = tuple(AuditRow.model_fields)

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
                busy = await anyio.to_thread.run_sync(self.index_batch)
            except (SQLAlchemyError, OSError) as error:
                log.warning("the audit index is behind: %s", type(error).__name__)
                await anyio.sleep(OUTAGE_SECONDS)
                continue
            if not busy:
                await anyio.sleep(PAUSE_SECONDS)

    async def catch_up(self) -> int:
        """Index all that is in the spool now; how many records that were."""
        total = 0
        while count := await anyio.to_thread.run_sync(self.index_batch):
            total += count
        return total

    def index_batch(self) -> int:
        """Copy up to one batch of one segment; how many records that were, 0 when nothing is left. Blocks."""
        for path in segments(self._folder):
            place = self._places.get(path.name)
            if place is None:
                place = self._places[path.name] = self._resume(path)
            if path.stat().st_size > place.offset and (count := self._copy(path, place)):
                return count
        return 0

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
        rows: list[dict[str, Any]] = []
        number = place.number
        for line in whole.splitlines():
            row = _row(path.name, line)
            if row and row["number"] > place.number:
                number = row["number"]
                if row["event"] != SEGMENT_OPEN:
                    rows.append(row)
        if rows:
            self._insert(rows)
        place.offset += len(whole)
        place.number = number
        # Lines that the index held already count as work too: the next batch of the segment waits behind them.
        return len(rows) or (1 if whole else 0)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        dialect = postgresql if self._database.engine.dialect.name == "postgresql" else sqlite
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
