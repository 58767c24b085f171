"""The catalog's rows in and out of the database: plain transactions, run in a thread by the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from hub.catalog.discovery import Definition, Found
from hub.catalog.models import AliasRow, CollectionRow, DefinitionRow, ServerRow, SettingRow
from hub.catalog.naming import Holder
from hub.catalog.snapshot import Kind
from hub.db.engine import Database
from hub.ids import now

REVISION = "catalog-revision"


@dataclass(frozen=True, slots=True)
class Stored:
    """All that the catalog knows, read at one moment. Servers are in the order of registration."""

    servers: Sequence[ServerRow]
    definitions: Mapping[str, tuple[Definition, ...]]
    owned: Mapping[tuple[Kind, str], Holder]
    collections: Sequence[CollectionRow]
    revision: int


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the catalog: written in one transaction or not at all."""

    servers: tuple[ServerRow, ...] = ()
    found: Mapping[str, Found] = field(default_factory=dict[str, Found])
    """Definitions that replace a server's, by server."""
    removed_servers: tuple[str, ...] = ()
    release_names: bool = False
    """Whether the removed servers' names become free for others."""
    collections: tuple[CollectionRow, ...] = ()
    removed_collections: tuple[str, ...] = ()


def read(database: Database) -> Stored:
    """Everything, in a handful of queries."""
    with database.session() as session:
        servers = session.exec(select(ServerRow).order_by(col(ServerRow.created), col(ServerRow.name))).all()
        columns = (
            DefinitionRow.server,
            DefinitionRow.era,
            DefinitionRow.kind,
            DefinitionRow.name,
            DefinitionRow.position,
            DefinitionRow.body,
            DefinitionRow.digest,
        )
        grouped: dict[str, list[Definition]] = {server.name: [] for server in servers}
        order = (
            col(DefinitionRow.server),
            col(DefinitionRow.era),
            col(DefinitionRow.kind),
            col(DefinitionRow.position),
        )
        rows = cast("Iterable[tuple[Any, ...]]", session.connection().execute(_columns(columns).order_by(*order)))
        for server, *rest in rows:
            if server in grouped:
                grouped[server].append(Definition(*rest))
        aliases = session.exec(select(AliasRow)).all()
        collections = session.exec(select(CollectionRow).order_by(col(CollectionRow.name))).all()
        revision = session.get(SettingRow, REVISION)
    owned = {_key(row): Holder(row.server, cast(Kind, row.kind), row.name) for row in aliases}
    return Stored(
        servers,
        {name: tuple(definitions) for name, definitions in grouped.items()},
        owned,
        collections,
        int(revision.value) if revision else 0,
    )


def write(database: Database, edit: Edit) -> None:
    """Carry out an edit and count the revision up."""
    with database.session() as session:
        for name in edit.removed_servers:
            row = session.get(ServerRow, name)
            if row is not None:
                session.connection().execute(delete(DefinitionRow).where(col(DefinitionRow.server) == name))
                session.delete(row)
            if edit.release_names:
                session.connection().execute(delete(AliasRow).where(col(AliasRow.server) == name))
        for row in edit.servers:
            session.merge(row)
        session.flush()
        for server, found in edit.found.items():
            _replace_definitions(session, server, found.definitions)
        for name in edit.removed_collections:
            collection = session.get(CollectionRow, name)
            if collection is not None:
                session.delete(collection)
        for collection in edit.collections:
            session.merge(collection)
        counter = session.get(SettingRow, REVISION) or SettingRow(key=REVISION, value="0")
        counter.value = str(int(counter.value) + 1)
        session.add(counter)


def claim(database: Database, claims: Mapping[tuple[Kind, str], Holder]) -> bool:
    """Store names as owned. False when another process was faster with one of them: read again and name anew."""
    if not claims:
        return True
    with database.session() as session:
        for (kind, exposed), holder in claims.items():
            row = session.get(AliasRow, (kind, exposed))
            if row is None:
                session.add(AliasRow(kind=kind, exposed=exposed, server=holder.server, name=holder.name))
            elif (row.server, row.name) != (holder.server, holder.name):
                session.rollback()
                return False
    return True


def _replace_definitions(session: Session, server: str, definitions: Iterable[Definition]) -> None:
    """Swap a server's definitions; one that did not change keeps its moments."""
    mine = col(DefinitionRow.server) == server
    columns = (
        DefinitionRow.era,
        DefinitionRow.kind,
        DefinitionRow.name,
        DefinitionRow.digest,
        DefinitionRow.first_seen,
        DefinitionRow.changed,
    )
    known: dict[tuple[Any, ...], tuple[str, datetime, datetime]] = {
        (era, kind, name): (digest, first, changed)
        for era, kind, name, digest, first, changed in cast(
            "Iterable[tuple[Any, ...]]", session.connection().execute(_columns(columns).where(mine))
        )
    }
    session.connection().execute(delete(DefinitionRow).where(mine))
    moment = now()
    rows: list[dict[str, Any]] = []
    for item in definitions:
        digest, first, changed = known.get((item.era, item.kind, item.name), ("", moment, moment))
        rows.append(
            {
                "server": server,
                "era": item.era,
                "kind": item.kind,
                "name": item.name,
                "position": item.position,
                "body": item.body,
                "digest": item.digest,
                "first_seen": first,
                "changed": changed if digest == item.digest else moment,
            }
        )
    if rows:
        session.connection().execute(insert(DefinitionRow), rows)


def _columns(columns: tuple[Any, ...]) -> Any:
    """A select of single columns: ten times cheaper than whole rows when there are thousands."""
    return cast("Any", select(*columns))


def _key(row: AliasRow) -> tuple[Kind, str]:
    return cast(Kind, row.kind), row.exposed
