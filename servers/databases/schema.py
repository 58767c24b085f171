"""The catalogue of a database as a model needs it: tables and views, columns, keys, indexes."""

from __future__ import annotations

import sqlite3

from pydantic import BaseModel, Field

from servers.kit import Fault


class Table(BaseModel):
    """A table or view."""

    name: str
    kind: str = Field(description="`table`, `view`, `virtual` or `shadow`.")
    columns: int


class Column(BaseModel):
    """A column."""

    name: str
    type: str = Field(description="Declared type; SQLite does not enforce it.")
    nullable: bool
    default: str | None
    primary_key: int = Field(description="Place in the primary key from 1; 0: not part of it.")


class ForeignKey(BaseModel):
    """A reference to another table."""

    columns: list[str]
    table: str
    references: list[str]


class Index(BaseModel):
    """An index."""

    name: str
    columns: list[str]
    unique: bool


class TableDescription(BaseModel):
    """Everything needed to write a query over a table."""

    name: str
    kind: str
    columns: list[Column]
    foreign_keys: list[ForeignKey]
    indexes: list[Index]


def tables(connection: sqlite3.Connection) -> list[Table]:
    """Tables and views of the main schema, without SQLite's own."""
    rows = connection.execute("PRAGMA table_list").fetchall()
    found = [Table(name=row[1], kind=row[2], columns=row[3]) for row in rows if row[0] == "main"]
    return sorted((t for t in found if not t.name.startswith("sqlite_")), key=lambda table: table.name)[:1000]


def describe(connection: sqlite3.Connection, name: str) -> TableDescription:
    """One table or view. Raises Fault where there is none."""
    kind = next((table.kind for table in tables(connection) if table.name.lower() == name.lower()), None)
    if kind is None:
        raise Fault(f"No table named {name[:80]!r}.", code="unknown-table", hint="Call list_tables for the names.")
    columns = [
        Column(name=row[1], type=row[2], nullable=not row[3], default=row[4], primary_key=row[5])
        for row in _pragma(connection, "table_xinfo", name)
        if row[6] != 1  # 1: hidden column of a virtual table
    ]
    return TableDescription(
        name=name,
        kind=kind,
        columns=columns,
        foreign_keys=_foreign_keys(connection, name),
        indexes=[
            Index(
                name=row[1],
                columns=[part[2] or "(expression)" for part in _pragma(connection, "index_info", row[1])],
                unique=bool(row[2]),
            )
            for row in _pragma(connection, "index_list", name)
        ],
    )


def _foreign_keys(connection: sqlite3.Connection, name: str) -> list[ForeignKey]:
    grouped: dict[int, ForeignKey] = {}
    for number, _, table, column, reference, *_ in _pragma(connection, "foreign_key_list", name):
        key = grouped.setdefault(number, ForeignKey(columns=[], table=table, references=[]))
        key.columns.append(column)
        key.references.append(reference or "(primary key)")
    return list(grouped.values())


def _pragma(connection: sqlite3.Connection, pragma: str, name: str) -> list[tuple[int, str, str, str, str, int, int]]:
    quoted = name.replace('"', '""')
    return connection.execute(f'PRAGMA {pragma}("{quoted}")').fetchall()
