"""The records of the hub's own tasks: written before a client is told of one, read by whichever worker it asks.

A worker that lives says so of its tasks every few seconds. One whose worker fell silent will never end: whoever looks
at it next finds that, and its outcome is unknown.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio.to_thread
from sqlalchemy import Column, LargeBinary, delete, update
from sqlmodel import Field, col, select

from hub.db.base import HubTable, UtcDateTime
from hub.db.engine import Database
from hub.ids import now

BEAT_SECONDS = 5.0
"""Between a worker's signs of life for its tasks."""

SILENT_SECONDS = 30.0
"""A task without a sign of life for so long has lost its worker: six beats, so that a locked database passes."""

OPEN = ("working", "input_required")
LOST = "outcome unknown: the worker that ran it ended"


class TaskRow(HubTable, table=True):
    """One task. `asked` is its open questions and `ended` its result or error, as members of a JSON object."""

    __tablename__ = "task"  # pyright: ignore[reportAssignmentType]

    id: str = Field(primary_key=True)
    subject: str
    worker: int
    server: str
    tool: str
    status: str
    message: str = ""
    asked: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    ended: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    ttl_seconds: int
    created: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    updated: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    seen: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False, index=True))
    """The last sign of life of its worker; after its end, of nobody."""


class TaskRecords:
    """Reads and writes them, each in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, row: TaskRow) -> None:
        """Store a task as it is now."""
        await anyio.to_thread.run_sync(self._put, row.model_copy())

    def _put(self, row: TaskRow) -> None:
        with self._database.session() as session:
            session.merge(row)

    async def get(self, identifier: str) -> TaskRow | None:
        """A task, lost ones told as such."""
        return await anyio.to_thread.run_sync(self._get, identifier)

    def _get(self, identifier: str) -> TaskRow | None:
        with self._database.session() as session:
            row = session.get(TaskRow, identifier)
            if row is not None and row.status in OPEN and row.seen < now() - timedelta(seconds=SILENT_SECONDS):
                row.status, row.message, row.asked, row.updated = "failed", LOST, None, now()
            return row

    async def beat(self, identifiers: list[str]) -> None:
        """A sign of life for these tasks."""
        await anyio.to_thread.run_sync(self._beat, identifiers)

    def _beat(self, identifiers: list[str]) -> None:
        with self._database.session() as session:
            session.connection().execute(update(TaskRow).where(col(TaskRow.id).in_(identifiers)).values(seen=now()))

    async def take_over(self, worker: int) -> int:
        """What a worker does at its start: what its predecessor left open is lost. Also forgets what is too old."""
        return await anyio.to_thread.run_sync(self._take_over, worker)

    def _take_over(self, worker: int) -> int:
        with self._database.session() as session:
            left = session.exec(select(TaskRow).where(TaskRow.worker == worker, col(TaskRow.status).in_(OPEN))).all()
            for row in left:
                row.status, row.message, row.asked, row.updated = "failed", LOST, None, now()
                session.add(row)
            return len(left)

    async def sweep(self) -> None:
        """Forget tasks that ended longer ago than their time to live."""
        await anyio.to_thread.run_sync(self._sweep)

    def _sweep(self) -> None:
        with self._database.session() as session:
            for ttl in session.exec(select(TaskRow.ttl_seconds).distinct()).all():
                oldest = now() - timedelta(seconds=ttl)
                session.connection().execute(
                    delete(TaskRow).where(
                        col(TaskRow.ttl_seconds) == ttl,
                        col(TaskRow.updated) < oldest,
                        col(TaskRow.seen) < oldest,
                    )
                )
