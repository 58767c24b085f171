"""The catalog's rows in and out of the database: plain transactions, run in a thread by the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import bindparam, delete, insert
from sqlmodel import Session, col, select

from hub.catalog.discovery import Definition, Found
from hub.catalog.models import AliasRow, CollectionRow, DefinitionRow, LimitRow, ServerRow
from hub.catalog.naming import Holder
from hub.catalog.snapshot import KINDS, Kind
from hub.db import revisions
from hub.db.engine import Database
from hub.errors import Conflict
from hub.ids import now

REVISION = "catalog-revision"

NAMES_REVISION = "catalog-names-revision"
"""Counts the claims and releases of names, of which there may be more than there are definitions."""

ROWS_AT_ONCE = 500
"""Rows fetched between two looks at what else there is to do; a thread of its own does it, beside the data path."""

SERVERS_AT_ONCE = 50
"""Servers whose definitions are asked for in one query; more than that are read in one go with all others."""

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
    names_revision: int = -1
    """The one at which `owned` was read."""
    counts: Mapping[str, Mapping[Kind, int]] = field(default_factory=dict[str, Mapping[Kind, int]])
    """How many there are of each kind, by server."""


NOTHING = Stored((), {}, {}, (), 0)


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
    present: tuple[str, ...] = ()
    """Servers that must still be there: a roll-out ends once, whoever ends it first."""
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


def read(database: Database, known: Stored = NOTHING) -> Stored:
    """Everything, in a handful of queries; what `known` has already and nobody changed since is not read again.

    A server's `changed` is a new one whenever its definitions are written, so an equal one vouches for them.
    """
    with database.session() as session:
        # First, so that rows of a later revision may be among these, but never rows of an earlier one.
        revision = revisions.read(session, REVISION)
        names_revision = revisions.read(session, NAMES_REVISION)
        owned = known.owned if names_revision == known.names_revision else _owned(session)
        servers = session.exec(select(ServerRow).order_by(col(ServerRow.created), col(ServerRow.name))).all()
        stamps = {row.name: row.changed for row in known.servers}
        fresh = [row.name for row in servers if stamps.get(row.name) != row.changed]
        read = _definitions(session, fresh, known)
        collections = session.exec(select(CollectionRow).order_by(col(CollectionRow.name))).all()
        limits = session.exec(select(LimitRow).order_by(col(LimitRow.name))).all()
    definitions = {row.name: read[row.name] if row.name in read else known.definitions[row.name] for row in servers}
    counts = {
        name: known.counts[name] if items is known.definitions.get(name) and name in known.counts else counted(items)
        for name, items in definitions.items()
    }
    return Stored(servers, definitions, owned, collections, revision, limits, names_revision, counts)


def _owned(session: Session) -> dict[tuple[Kind, str], Holder]:
    columns = (AliasRow.kind, AliasRow.exposed, AliasRow.server, AliasRow.name)
    found = session.connection().execute(_columns(columns))
    return {
        (_kind(kind), exposed): Holder(server, _kind(kind), name)
        for rows in found.partitions(ROWS_AT_ONCE)
        for kind, exposed, server, name in cast("Sequence[tuple[str, str, str, str]]", rows)
    }


def _definitions(session: Session, servers: Sequence[str], known: Stored) -> dict[str, tuple[Definition, ...]]:
    """The definitions of these servers, each the object that is known already where it is the same."""
    if not servers:
        return {}
    columns = (DefinitionRow.server, *DEFINITION)
    order = (col(DefinitionRow.server), col(DefinitionRow.era), col(DefinitionRow.kind), col(DefinitionRow.position))
    query = _columns(columns).order_by(*order)
    if len(servers) <= SERVERS_AT_ONCE:
        query = query.where(col(DefinitionRow.server).in_(servers))
    grouped: dict[str, list[Definition]] = {name: [] for name in servers}
    shelves = {name: _Shelf(known.definitions.get(name, ())) for name in servers}
    found = session.connection().execute(query)
    for rows in found.partitions(ROWS_AT_ONCE):
        for server, *rest in cast("Sequence[tuple[Any, ...]]", rows):
            if server in grouped:
                grouped[server].append(shelves[server].kept(Definition(*rest)))
    read = {name: tuple(items) for name, items in grouped.items()}
    return {
        name: known.definitions[name] if known.definitions.get(name) == items else items for name, items in read.items()
    }


class _Shelf:
    """One server's definitions, each kept once; what two eras say alike is kept once as well."""

    def __init__(self, known: Iterable[Definition]) -> None:
        self._known = {(item.era, item.kind, item.name): item for item in known}
        self._bodies = {item.body: item for item in self._known.values()}

    def kept(self, read: Definition) -> Definition:
        known = self._known.get((read.era, read.kind, read.name))
        if known is not None and known == read:
            return known
        twin = self._bodies.setdefault(read.body, read)
        kind = _kind(read.kind)
        era = "modern" if read.era == "modern" else "legacy"
        if (twin.kind, twin.name, twin.digest) == (kind, read.name, read.digest):
            return Definition(era, kind, twin.name, read.position, twin.body, twin.digest)
        return Definition(era, kind, read.name, read.position, read.body, read.digest)


def counted(definitions: Iterable[Definition]) -> dict[Kind, int]:
    """How many there are of each kind, whatever number of eras says it."""
    names = {(item.kind, item.name) for item in definitions}
    kinds = [kind for kind, _ in names]
    return {kind: kinds.count(kind) for kind in KINDS}


def _kind(text: str) -> Kind:
    """The one object for a kind: rows bring a text of their own each."""
    return _KINDS[text]


_KINDS: Mapping[str, Kind] = {kind: kind for kind in KINDS}


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
        for name in edit.present:
            if session.get(ServerRow, name) is None:
                raise Conflict(f"{name!r} is not there any more.", hint="Look again: somebody else was faster.")
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
                revisions.count_up(session, NAMES_REVISION)
        for row in edit.servers:
            present = session.get(ServerRow, row.name)
            if present is not None and row.changed <= present.changed:
                row.changed = _later(present.changed)
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


def claim(database: Database, stored: Stored, claims: Mapping[tuple[Kind, str], Holder]) -> Stored | None:
    """Store names as owned, and give what is stored with them. None when somebody else was there since: read again."""
    if not claims:
        return stored
    with database.session() as session:
        revisions.hold(session, NAMES_REVISION)
        if revisions.read(session, NAMES_REVISION) != stored.names_revision:
            return None
        rows = [
            {"kind": kind, "exposed": exposed, "server": holder.server, "name": holder.name}
            for (kind, exposed), holder in claims.items()
        ]
        session.connection().execute(insert(AliasRow), rows)
        names_revision = revisions.count_up(session, NAMES_REVISION)
    return replace(stored, owned={**stored.owned, **claims}, names_revision=names_revision)


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
    if observed.definitions is not None and _replace_definitions(session, observed.server, observed.definitions):
        row.changed = _later(row.changed)
        news = True
    session.add(row)
    return "news" if news else "same"


def _replace_definitions(session: Session, server: str, definitions: Iterable[Definition]) -> bool:
    """Swap a server's definitions, writing only what differs. Whether anything did."""
    columns = (*DEFINITION, DefinitionRow.first_seen, DefinitionRow.changed)
    known: dict[tuple[str, str, str], tuple[Definition, datetime, datetime]] = {}
    found = session.connection().execute(_columns(columns).where(col(DefinitionRow.server) == server))
    for rows in found.partitions(ROWS_AT_ONCE):
        for *of, first, changed in cast("Sequence[tuple[Any, ...]]", rows):
            item = Definition(*of)
            known[item.era, item.kind, item.name] = (item, first, changed)
    moment = now()
    written: list[dict[str, Any]] = []
    gone = set(known)
    for item in definitions:
        key = (item.era, item.kind, item.name)
        before, first, changed = known.get(key, (None, moment, moment))
        if before == item:
            gone.discard(key)
            continue
        same = before is not None and before.digest == item.digest
        written.append(
            {
                "server": server,
                "era": item.era,
                "kind": item.kind,
                "name": item.name,
                "position": item.position,
                "body": item.body,
                "digest": item.digest,
                "first_seen": first,
                "changed": changed if same else moment,
            }
        )
    if gone:
        session.connection().execute(_ONE_DEFINITION, [_bound(server, key) for key in gone])
    if written:
        session.connection().execute(insert(DefinitionRow), written)
    return bool(gone or written)


_ONE_DEFINITION = delete(DefinitionRow).where(
    col(DefinitionRow.server) == bindparam("of_server"),
    col(DefinitionRow.era) == bindparam("of_era"),
    col(DefinitionRow.kind) == bindparam("of_kind"),
    col(DefinitionRow.name) == bindparam("of_name"),
)


def _bound(server: str, key: tuple[str, str, str]) -> dict[str, str]:
    return {"of_server": server, "of_era": key[0], "of_kind": key[1], "of_name": key[2]}


def _later(moment: datetime) -> datetime:
    """Now, and in any case after `moment`: a clock that is set back must not make a change look like none."""
    return max(now(), moment + timedelta(microseconds=1))


def _columns(columns: tuple[Any, ...]) -> Any:
    """A select of single columns: ten times cheaper than whole rows when there are thousands."""
    return cast("Any", select(*columns))
