"""API keys: made, shown once, kept as digests, and checked from memory alone.

A token is `ek_PREFIX_SECRET_CHECK`: the prefix can be shown, the secret has 256 random bits, and the check
(CRC-32 of all before it) lets scanners recognise a leaked key; here the look-up alone decides, which costs less.
Other workers learn of a new or revoked key through `load()`, and by `stale()` that they have to.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import cast

import anyio
from sqlalchemy import and_, delete, or_
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from hub.db import revisions
from hub.db.engine import Database
from hub.errors import InvalidParams, NotFound
from hub.identity.models import ApiKey
from hub.identity.principal import Kind, Principal
from hub.identity.scopes import DEFAULT_SCOPES, checked
from hub.ids import ALPHABET, Clock, new_id, system_clock

LONGEST_TOKEN = 120
SECRET_BITS = 256
PREFIX_LETTERS = 8
FLUSH_SECONDS = 30.0
"""How stale `last_used` may be: it is for people who tidy up, so it never costs the path a write."""

REVISION = "keys-revision"
"""Counts every key made or revoked."""

PRUNE_SECONDS = 3600.0
RUN_KEPT = timedelta(days=1)
"""How long the expired key of a run stays in the table: its run is in the audit by subject."""
REVOKED_KEPT = timedelta(days=90)
REVOKED_LISTED = 200
"""Revoked keys that people are shown; each start of the hub leaves some behind."""

MOST_TEAMS = 20
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")

KINDS: tuple[Kind, ...] = ("person", "service", "run")


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    id: str
    expires: float


class ApiKeys:
    """The keys of this installation. Writing methods run the database in a thread and are awaited."""

    def __init__(self, database: Database, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}
        self._used: dict[str, float] = {}
        self._revision = 0
        # What is read must not be swapped in over what was made or revoked since.
        self._changing = anyio.Lock()

    def authenticate(self, token: str | bytes) -> Principal | None:
        """Who holds this token; None when nobody does (any more). Memory only, never raises.

        The whole token is hashed and looked up, so keys that share a beginning stay apart, and how long a look-up
        takes says nothing about the secret.
        """
        if isinstance(token, str):
            if not token.isascii():
                return None
            token = token.encode("ascii")
        if len(token) > LONGEST_TOKEN or not token.startswith(b"ek_"):
            return None
        return self.holder(sha256(token).digest())

    def holder(self, digest: bytes) -> Principal | None:
        """Who holds the token of this SHA-256 digest; None when nobody does (any more)."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        moment = self._clock()
        if entry.expires and moment >= entry.expires:
            return None
        self._used[entry.id] = moment
        return entry.principal

    async def create(
        self,
        name: str,
        scopes: Iterable[str] | None = None,
        *,
        expires: datetime | None = None,
        kind: str = "service",
        on_behalf_of: str = "",
        teams: Iterable[str] | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key and give its row and its token, which is not stored and cannot be shown again.

        Without `teams` it gets those of the key it acts for.

        None as `scopes` means `DEFAULT_SCOPES`; an empty set is a key that may do nothing. Whoever creates for somebody
        passes `scopes.narrowed(...)`. Raises `InvalidParams` for an unknown scope or kind, an empty name, or an
        expiry that is past.
        """
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise InvalidParams("A key needs a name of 1 to 200 printable characters.")
        if kind not in KINDS:
            raise InvalidParams(f"Unknown kind of key: {kind!r}.", hint=f"Kinds are {', '.join(KINDS)}.")
        if expires is not None and expires.timestamp() <= self._clock():
            raise InvalidParams("The key would be expired already.", hint="Give an expiry in the future.")
        granted = DEFAULT_SCOPES if scopes is None else checked(scopes)
        belongs = self._teams_of(on_behalf_of) if teams is None else _checked_teams(teams)
        id = new_id("key_")
        body = f"ek_{id[-PREFIX_LETTERS:]}_{new_id(bits=SECRET_BITS)}".encode()
        token = body + b"_" + _check(body)
        row = ApiKey(
            id=id,
            name=name,
            prefix=f"ek_{id[-PREFIX_LETTERS:]}",
            digest=sha256(token).hexdigest(),
            scopes=sorted(granted),
            teams=sorted(belongs),
            kind=kind,
            on_behalf_of=on_behalf_of,
            created=datetime.fromtimestamp(self._clock(), UTC),
            expires=expires,
        )
        async with self._changing:
            revision = await anyio.to_thread.run_sync(self._insert, row)
            self._entries[bytes.fromhex(row.digest)] = _entry(row)
            self._follow(revision)
        return row, token.decode("ascii")

    async def list(self) -> Sequence[ApiKey]:
        """All keys that are not revoked, and the latest `REVOKED_LISTED` that are; newest first."""
        return await anyio.to_thread.run_sync(self._shown)

    async def revoke(self, id: str) -> ApiKey:
        """Make a key worthless: here at once, elsewhere after `load()`; twice is fine. Raises `NotFound`.

        The key of a run is deleted: there is one for every run, and its history is in the audit.
        """
        async with self._changing:
            row, revision = await anyio.to_thread.run_sync(self._mark_revoked, id)
            self._entries.pop(bytes.fromhex(row.digest), None)
            self._follow(revision)
        return row

    async def load(self) -> None:
        """Read all usable keys from the database and swap them in whole."""
        async with self._changing:
            revision, rows = await anyio.to_thread.run_sync(self._usable)
            self._entries = {bytes.fromhex(row.digest): _entry(row) for row in rows}
            self._revision = revision

    async def stale(self) -> bool:
        """Whether another worker made or revoked a key since `load`; one short query, never raises.

        False also while the database is away: nothing could be loaded then.
        """
        async with self._changing:
            try:
                return await anyio.to_thread.run_sync(self._stored_revision) != self._revision
            except SQLAlchemyError:
                return False

    async def prune(self) -> None:
        """Delete keys of runs that are long over, and keys that were revoked long ago."""
        await anyio.to_thread.run_sync(self._delete_old)

    async def flush(self) -> None:
        """Write the moments of last use that have gathered; they stay gathered when the database is away."""
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            await anyio.to_thread.run_sync(self._write_used, used)
        except SQLAlchemyError:
            self._used = used | self._used

    async def flush_forever(self) -> None:
        """Flush now and then, and once more when cancelled; prune every hour."""
        due = 0.0
        try:
            while True:
                await anyio.sleep(FLUSH_SECONDS)
                await self.flush()
                if anyio.current_time() >= due:
                    due = anyio.current_time() + PRUNE_SECONDS
                    with contextlib.suppress(SQLAlchemyError):  # the next hour does it
                        await self.prune()
        finally:
            with anyio.move_on_after(2, shield=True):
                await self.flush()

    def _teams_of(self, subject: str) -> frozenset[str]:
        found = (entry.principal.teams for entry in self._entries.values() if entry.principal.subject == subject)
        return next(found, frozenset[str]()) if subject else frozenset()

    def _follow(self, revision: int) -> None:
        """Be current after a change of our own, unless others changed something in between."""
        if revision == self._revision + 1:
            self._revision = revision

    def _stored_revision(self) -> int:
        with self._database.session() as session:
            return revisions.read(session, REVISION)

    def _insert(self, row: ApiKey) -> int:
        with self._database.session() as session:
            revision = revisions.count_up(session, REVISION)
            session.add(row)
            return revision

    def _usable(self) -> tuple[int, Sequence[ApiKey]]:
        moment = datetime.fromtimestamp(self._clock(), UTC)
        lasting = or_(col(ApiKey.expires).is_(None), col(ApiKey.expires) > moment)
        with self._database.session() as session:
            revision = revisions.read(session, REVISION)
            return revision, session.exec(select(ApiKey).where(col(ApiKey.revoked).is_(None), lasting)).all()

    def _shown(self) -> Sequence[ApiKey]:
        revoked = col(ApiKey.revoked)
        with self._database.session() as session:
            kept = session.exec(select(ApiKey).where(revoked.is_(None))).all()
            gone = session.exec(
                select(ApiKey).where(revoked.is_not(None)).order_by(revoked.desc()).limit(REVOKED_LISTED)
            ).all()
        return sorted([*kept, *gone], key=lambda row: row.created, reverse=True)

    def _mark_revoked(self, id: str) -> tuple[ApiKey, int]:
        with self._database.session() as session:
            revision = revisions.count_up(session, REVISION)
            row = session.get(ApiKey, id)
            if row is None:
                raise NotFound(f"There is no key {id!r}.")
            row.revoked = row.revoked or datetime.fromtimestamp(self._clock(), UTC)
            if row.kind == "run":
                session.delete(row)
            else:
                session.add(row)
            return row, revision

    def _delete_old(self) -> None:
        moment = datetime.fromtimestamp(self._clock(), UTC)
        of_runs = and_(col(ApiKey.kind) == "run", col(ApiKey.expires) < moment - RUN_KEPT)
        with self._database.session() as session:
            connection = session.connection()
            connection.execute(delete(ApiKey).where(or_(of_runs, col(ApiKey.revoked) < moment - REVOKED_KEPT)))

    def _write_used(self, used: dict[str, float]) -> None:
        with self._database.session() as session:
            for row in session.exec(select(ApiKey).where(col(ApiKey.id).in_(used))):
                row.last_used = datetime.fromtimestamp(used[row.id], UTC)
                session.add(row)


def _entry(row: ApiKey) -> _Entry:
    expires = row.expires.timestamp() if row.expires else 0.0
    kind = cast(Kind, row.kind)
    # The id, not the name, makes the subject: names are the creator's choice and may repeat.
    subject = f"{'run' if kind == 'run' else 'key'}:{row.id.removeprefix('key_')}"
    scopes, teams = frozenset(row.scopes), frozenset(row.teams)
    return _Entry(Principal(subject, row.name, kind, scopes, row.on_behalf_of, expires, teams), row.id, expires)


def _checked_teams(teams: Iterable[str]) -> frozenset[str]:
    found = frozenset(teams)
    bad = next((team for team in found if not _TEAM.fullmatch(team)), None)
    if bad is not None or len(found) > MOST_TEAMS:
        raise InvalidParams(
            f"Not a team: {(bad or '')[:60]!r}." if bad is not None else f"At most {MOST_TEAMS} teams.",
            hint="A team is up to 60 letters, digits, dots, dashes and underscores.",
        )
    return found


def _check(body: bytes) -> bytes:
    value, letters = zlib.crc32(body), bytearray()
    for _ in range(7):
        value, digit = divmod(value, 32)
        letters.append(ord(ALPHABET[digit]))
    return bytes(letters)
