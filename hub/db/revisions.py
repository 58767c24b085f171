"""Counters that tell workers whether what they hold in memory is what the database holds.

A writer holds its counter, or counts up, first thing in its transaction: that takes the database's write lock (SQLite)
or the counter's row (PostgreSQL), so writers of one kind stand in line and see each other's rows. A reader that reads
the counter *before* the rows never believes itself newer than it is.
"""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table, select, text
from sqlmodel import Session

# The table belongs to the catalog, which stands above; only these two columns are of interest here.
SETTING = Table("setting", MetaData(), Column("key", String, primary_key=True), Column("value", String))

_MAKE = text("INSERT INTO setting (key, value) VALUES (:name, '0') ON CONFLICT (key) DO NOTHING")
_HOLD = text("UPDATE setting SET value = value WHERE key = :name")
_RAISE = text("UPDATE setting SET value = CAST(CAST(value AS BIGINT) + 1 AS VARCHAR) WHERE key = :name")


def read(session: Session, name: str) -> int:
    """The present count; 0 before the first change."""
    value = session.connection().execute(select(SETTING.c.value).where(SETTING.c.key == name)).scalar()
    return int(value or 0)


def hold(session: Session, name: str) -> None:
    """Have other writers wait until the end of this transaction, which may count up or not."""
    connection = session.connection()
    connection.execute(_MAKE, {"name": name})
    connection.execute(_HOLD, {"name": name})


def count_up(session: Session, name: str) -> int:
    """Count a change that the rest of this transaction makes, and give the new count."""
    connection = session.connection()
    connection.execute(_MAKE, {"name": name})
    connection.execute(_RAISE, {"name": name})
    return read(session, name)
