"""Copies new lines of the spool into the audit index, in batches, in a thread.

Resumable and idempotent: what the index holds says where to go on, and a row that is there already stays. A
database that is away costs freshness only. One process runs this for the whole folder; two do no harm.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import anyio
import orjson
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
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

ROWS_AT_ONCE = 80
"""One statement for so many: 4 µs a record instead of 20, and short holds of the interpreter, which calls need too.
SQLite of before 3.32 takes 999 values in one."""

_TEXTS = itemgetter("event", "subject", "on_behalf_of", "server", "target", "outcome")
_PLACES = "(" + ",".join("?" * len(COLUMNS)) + ")"
INSERT = (
    "insert into audit (segment, number, at, event, subject, on_behalf_of, server, target, outcome, milliseconds,"
    " trace, detail) values {} on conflict do nothing"
)

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
        rows = [row for line in whole.splitlines() if (row := _row(path.name, line)) and row[1] > place.number]
        records = [row for row in rows if row[3] != SEGMENT_OPEN]
        if records:
            self._insert(records)
        place.offset += len(whole)
        place.number = max((row[1] for row in rows), default=place.number)
        # Lines that the index held already count as work too: the next batch of the segment waits behind them.
        return len(records) or (1 if whole else 0)

    def _insert(self, rows: list[_Row]) -> None:
        with self._database.engine.begin() as connection:
            if connection.dialect.name != "sqlite":
                # The dialect in use is loaded; the other one would be 2 MB in every worker.
                dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
                statement = dialect.insert(AuditRow).on_conflict_do_nothing()
                connection.execute(statement, [_named(row) for row in rows])
                return
            for start in range(0, len(rows), ROWS_AT_ONCE):
                part = rows[start : start + ROWS_AT_ONCE]
                values = tuple(chain.from_iterable(part))
                connection.exec_driver_sql(INSERT.format(",".join([_PLACES] * len(part))), values)


_Row = tuple[str, int, str, str, str, str, str, str, str, float, str, str]
"""In the order of `INSERT`; the moment as SQLite holds it."""


def _row(segment: str, line: bytes) -> _Row | None:
    """The line as a row; None for one that is not a record (verification names it)."""
    try:
        record = orjson.loads(line)
        number, at = record["number"], record["at"]
        event, subject, on_behalf_of, server, target, outcome = _TEXTS(record)
        # Text of this one form, so that it sorts.
        if not at.endswith("+00:00") or len(at) != 29 or not isinstance(number, int) or not isinstance(event, str):
            return None
        datetime.fromisoformat(at)
        moment = f"{at[:10]} {at[11:23]}000"
        rest = (float(record["milliseconds"]), str(record["trace"]), str(record["detail"]))
        who = (str(subject), str(on_behalf_of), str(server), str(target), str(outcome))
        return (segment, number, moment, event, *who, *rest)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _named(row: _Row) -> dict[str, Any]:
    named: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    return named | {"at": datetime.fromisoformat(row[2]).replace(tzinfo=UTC)}
