"""Searching the audit index. The index may lag behind the spool by a second; the spool is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import anyio
from sqlalchemy import and_, or_
from sqlmodel import col, select

from hub.audit.models import AuditRow
from hub.db.engine import Database
from hub.errors import InvalidParams

LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look for; empty means anything. `subject` finds whoever acted and whoever it was done for."""

    subject: str = ""
    event: str = ""
    server: str = ""
    target: str = ""
    outcome: str = ""
    trace: str = ""
    after: datetime | None = None
    before: datetime | None = None


async def search(
    database: Database, filters: Filters | None = None, limit: int = 100, before: str = ""
) -> list[dict[str, Any]]:
    """Records, newest first, as in the API's `Record`. `before` is the `cursor` of the last record of a page.

    Raises `InvalidParams` for a cursor that is not one.
    """
    limit = max(1, min(limit, LARGEST_PAGE))
    return await anyio.to_thread.run_sync(_search, database, filters or Filters(), limit, _parsed(before))


def cursor(record: dict[str, Any]) -> str:
    """Where the page after this record begins."""
    return f"{record['at']}|{record['segment']}|{record['number']}"


def _search(
    database: Database, filters: Filters, limit: int, place: tuple[datetime, str, int] | None
) -> list[dict[str, Any]]:
    query = select(AuditRow).order_by(
        col(AuditRow.at).desc(), col(AuditRow.segment).desc(), col(AuditRow.number).desc()
    )
    if filters.subject:
        query = query.where(
            or_(col(AuditRow.subject) == filters.subject, col(AuditRow.on_behalf_of) == filters.subject)
        )
    for name in ("event", "server", "target", "outcome", "trace"):
        if wanted := getattr(filters, name):
            query = query.where(col(getattr(AuditRow, name)) == wanted)
    if filters.after:
        query = query.where(col(AuditRow.at) >= filters.after)
    if filters.before:
        query = query.where(col(AuditRow.at) < filters.before)
    if place:
        at, segment, number = place
        query = query.where(
            or_(
                col(AuditRow.at) < at,
                and_(col(AuditRow.at) == at, col(AuditRow.segment) < segment),
                and_(col(AuditRow.at) == at, col(AuditRow.segment) == segment, col(AuditRow.number) < number),
            )
        )
    with database.session() as session:
        return [_shown(row) for row in session.exec(query.limit(limit))]


def _shown(row: AuditRow) -> dict[str, Any]:
    return row.model_dump() | {"at": row.at.isoformat(timespec="milliseconds")}


def _parsed(place: str) -> tuple[datetime, str, int] | None:
    if not place:
        return None
    try:
        at, segment, number = place.split("|")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return moment, segment, int(number)
    except ValueError as error:
        raise InvalidParams("That is not a place in the audit.", hint="Pass on the cursor you were given.") from error
