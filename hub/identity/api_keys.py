"""API keys: made, shown once, kept as digests, and checked from memory alone.

A token is `ek_PREFIX_SECRET_CHECK`: the prefix can be shown, the secret has 256 random bits, and the check
(CRC-32 of all before it) lets scanners recognise a leaked key and lets us turn garbage away without a look-up.
Other workers learn of a new or revoked key through `load()`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

import anyio
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

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
        body, _, check = token.rpartition(b"_")
        if check != _check(body):
            return None
        entry = self._entries.get(sha256(token).digest())
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
    ) -> tuple[ApiKey, str]:
        """Make a key and give its row and its token, which is not stored and cannot be shown again.

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
        id = new_id("key_")
        body = f"ek_{id[-PREFIX_LETTERS:]}_{new_id(bits=SECRET_BITS)}".encode()
        token = body + b"_" + _check(body)
        row = ApiKey(
            id=id,
            name=name,
            prefix=f"ek_{id[-PREFIX_LETTERS:]}",
            digest=sha256(token).hexdigest(),
            scopes=sorted(granted),
            kind=kind,
            on_behalf_of=on_behalf_of,
            created=datetime.fromtimestamp(self._clock(), UTC),
            expires=expires,
        )
        await anyio.to_thread.run_sync(self._insert, row)
        self._entries[bytes.fromhex(row.digest)] = _entry(row)
        return row, token.decode("ascii")

    async def list(self) -> Sequence[ApiKey]:
        """All keys, newest first, revoked ones too."""
        return await anyio.to_thread.run_sync(self._all)

    async def revoke(self, id: str) -> ApiKey:
        """Make a key worthless: here at once, elsewhere after `load()`; twice is fine. Raises `NotFound`."""
        row = await anyio.to_thread.run_sync(self._mark_revoked, id)
        self._entries.pop(bytes.fromhex(row.digest), None)
        return row

    async def load(self) -> None:
        """Read all usable keys from the database and swap them in whole."""
        rows = await anyio.to_thread.run_sync(self._all)
        self._entries = {bytes.fromhex(row.digest): _entry(row) for row in rows if row.revoked is None}

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
        """Flush now and then, and once more when cancelled."""
        try:
            while True:
                await anyio.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            with anyio.move_on_after(2, shield=True):
                await self.flush()

    def _insert(self, row: ApiKey) -> None:
        with self._database.session() as session:
            session.add(row)

    def _all(self) -> Sequence[ApiKey]:
        with self._database.session() as session:
            return session.exec(select(ApiKey).order_by(col(ApiKey.created).desc())).all()

    def _mark_revoked(self, id: str) -> ApiKey:
        with self._database.session() as session:
            row = session.get(ApiKey, id)
            if row is None:
                raise NotFound(f"There is no key {id!r}.")
            row.revoked = row.revoked or datetime.fromtimestamp(self._clock(), UTC)
            session.add(row)
            return row

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
    return _Entry(Principal(subject, row.name, kind, frozenset(row.scopes), row.on_behalf_of, expires), row.id, expires)


def _check(body: bytes) -> bytes:
    value, letters = zlib.crc32(body), bytearray()
    for _ in range(7):
        value, digit = divmod(value, 32)
        letters.append(ord(ALPHABET[digit]))
    return bytes(letters)
