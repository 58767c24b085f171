"""The catalog's rows in and out of the database: plain transactions, run in a thread by the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from hub.catalog.discovery import Definition, Found
from hub.catalog.models import AliasRow, CollectionRow, DefinitionRow, LimitRow, ServerRow
from hub.catalog.naming import Holder
from hub.catalog.snapshot import Kind
from hub.db import revisions
from hub.db.engine import Database
from hub.errors import Conflict
from hub.ids import now

REVISION = "catalog-revision"

DEFINITION = (
    DefinitionRow.era,
    DefinitionRow.kind,
    DefinitionRow.name,
    DefinitionRow.position,
    DefinitionRow.body,
    DefinitionRow.digest,
)
"""The columns of a `Definition`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """All that the catalog knows, read at one moment. Servers are in the order of registration."""

    servers: Sequence[ServerRow]
    definitions: Mapping[str, tuple[Definition, ...]]
    owned: Mapping[tuple[Kind, str], Holder]
    collections: Sequence[CollectionRow]
    revision: int
    limits: Sequence[LimitRow] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a server; it touches nothing that was declared.

    Not written when the server is gone or was declared anew since, or when a later look was faster.
    """

    server: str
    declared: Mapping[str, Any]
    """The declaration that was looked at."""
    looked: datetime
    """When the look began."""
    state: str
    reason: str
    facts: Mapping[str, Any] | None = None
    """None, as are `eras` and `definitions`, when the last good ones stay."""
    eras: Sequence[str] | None = None
    definitions: tuple[Definition, ...] | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the catalog: written in one transaction or not at all."""

    servers: tuple[ServerRow, ...] = ()
    fresh: tuple[str, ...] = ()
    """Servers among them that nobody may have added in the meantime."""
    observed: Observed | None = None
    found: Mapping[str, Found] = field(default_factory=dict[str, Found])
    """Definitions that replace a server's, by server."""
    removed_servers: tuple[str, ...] = ()
    release_names: bool = False
    """Whether the removed servers' names become free for others."""
    collections: tuple[CollectionRow, ...] = ()
    removed_collections: tuple[str, ...] = ()
    limits: tuple[LimitRow, ...] = ()
    removed_limits: tuple[str, ...] = ()


def read(database: Database) -> Stored:
    """Everything, in a handful of queries."""
    with database.session() as session:
        # First, so that rows of a later revision may be among these, but never rows of an earlier one.
        revision = revisions.read(session, REVISION)
        servers = session.exec(select(ServerRow).order_by(col(ServerRow.created), col(ServerRow.name))).all()
        columns = (DefinitionRow.server, *DEFINITION)
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
        limits = session.exec(select(LimitRow).order_by(col(LimitRow.name))).all()
    owned = {_key(row): Holder(row.server, cast(Kind, row.kind), row.name) for row in aliases}
    return Stored(
        servers,
        {name: tuple(definitions) for name, definitions in grouped.items()},
        owned,
        collections,
        revision,
        limits,
    )


def revision(database: Database) -> int:
    """The revision that is stored."""
    with database.session() as session:
        return revisions.read(session, REVISION)


def server(database: Database, name: str) -> ServerRow | None:
    """One server as stored."""
    with database.session() as session:
        return session.get(ServerRow, name)


def servers(database: Database) -> Sequence[ServerRow]:
    """All servers as stored."""
    with database.session() as session:
        return session.exec(select(ServerRow)).all()


def write(database: Database, edit: Edit) -> bool:
    """Carry out an edit and count the revision up.

    False when only the moment of a look was noted: what is in memory is still what is stored. Raises `Conflict`.
    """
    with database.session() as session:
        revisions.hold(session, REVISION)
        for name in edit.fresh:
            if session.get(ServerRow, name) is not None:
                raise Conflict(f"There is a server {name!r} already.", hint="Choose another name, or remove it first.")
        if edit.observed is not None and edit == Edit(observed=edit.observed):
            told = _observe(session, edit.observed)
            if told == "news":
                revisions.count_up(session, REVISION)
            return told != "same"
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
        for name in edit.removed_limits:
            limit = session.get(LimitRow, name)
            if limit is not None:
                session.delete(limit)
        for limit in edit.limits:
            session.merge(limit)
        session.flush()
        revisions.count_up(session, REVISION)
    return True


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


def _observe(session: Session, observed: Observed) -> Literal["news", "same", "outdated"]:
    """Write down what was seen, and say what came of it."""
    row = session.get(ServerRow, observed.server)
    if row is None or row.declared != observed.declared:
        return "outdated"
    if row.discovered is not None and row.discovered > observed.looked:
        return "outdated"
    before = (row.state, row.reason, row.facts, row.eras)
    row.state, row.reason = observed.state, observed.reason
    if observed.facts is not None:
        row.facts, row.eras, row.discovered = dict(observed.facts), list(observed.eras or ()), observed.looked
    news = before != (row.state, row.reason, row.facts, row.eras)
    if observed.definitions is not None and _differ(session, observed.server, observed.definitions):
        row.changed = now()
        _replace_definitions(session, observed.server, observed.definitions)
        news = True
    session.add(row)
    return "news" if news else "same"


def _differ(session: Session, server: str, definitions: Iterable[Definition]) -> bool:
    rows = session.connection().execute(_columns(DEFINITION).where(col(DefinitionRow.server) == server))
    return {Definition(*row) for row in cast("Iterable[tuple[Any, ...]]", rows)} != set(definitions)


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
