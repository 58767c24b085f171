"""Seals small values with a key of the installation: AES-256-GCM, the purpose bound in, so values cannot change places.

The keys lie in the table `setting` under `seal-key` as `{"1": base64, ...}`; the highest number seals, all open.
Whoever reads the whole database reads them too: this keeps secrets out of dumps of single tables, logs and API answers.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import threading

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, MetaData, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from hub.db.engine import Database
from hub.errors import InvalidParams, Unavailable

KEY_NAME = "seal-key"
FORM = 1
"""First byte of every sealed value."""
NONCE_BYTES = 12
TAG_BYTES = 16

# The table belongs to the catalog, which stands above the vault; only these two columns are of interest here.
SETTING = Table("setting", MetaData(), Column("key", String, primary_key=True), Column("value", String))


class Secret:
    """A value that never prints: not by `repr`, `str`, formatting or a traceback's locals."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; a word that stands out in review."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(…)"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not written anywhere")


class Keyring:
    """The installation's sealing keys, read once and kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._keys: dict[int, AESGCM] = {}
        self._current = 0

    def load(self) -> None:
        """Read the keys, or make the first. Blocks for a query; the first use does it where nobody did.

        Raises `Unavailable` when the stored keys cannot be read.
        """
        with self._lock:
            if self._keys:
                return
            stored = self._stored() or self._create()
            try:
                keys = {
                    int(number): base64.b64decode(key, validate=True) for number, key in orjson.loads(stored).items()
                }
                self._keys = {number: AESGCM(key) for number, key in keys.items()}
                self._current = max(self._keys)
            except (ValueError, AttributeError, TypeError) as error:
                self._keys = {}
                raise Unavailable(
                    "The installation's sealing key is damaged.", hint="Restore the database from a backup."
                ) from error

    def seal(self, purpose: str, value: bytes) -> str:
        """The value as text that only `open` with the same purpose turns back."""
        self.load()
        nonce = secrets.token_bytes(NONCE_BYTES)
        head = bytes((FORM, self._current))
        sealed = self._keys[self._current].encrypt(nonce, value, _bound(head, purpose))
        return base64.urlsafe_b64encode(head + nonce + sealed).rstrip(b"=").decode("ascii")

    def open(self, purpose: str, sealed: str) -> bytes:
        """The value that was sealed. Raises `InvalidParams` for a changed one, another purpose or a forgotten key."""
        self.load()
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
            if len(raw) < 2 + NONCE_BYTES + TAG_BYTES or raw[0] != FORM:
                raise ValueError("form")
            head, nonce = raw[:2], raw[2 : 2 + NONCE_BYTES]
            return self._keys[raw[1]].decrypt(nonce, raw[2 + NONCE_BYTES :], _bound(head, purpose))
        except (ValueError, KeyError, binascii.Error, InvalidTag) as error:
            raise InvalidParams("The sealed value does not open.", reason=f"sealed {purpose}: {error!r}") from error

    def _stored(self) -> str:
        with self._database.engine.connect() as connection:
            return connection.execute(select(SETTING.c.value).where(SETTING.c.key == KEY_NAME)).scalar() or ""

    def _create(self) -> str:
        made = orjson.dumps({"1": base64.b64encode(AESGCM.generate_key(256)).decode("ascii")}).decode("ascii")
        try:
            with self._database.engine.begin() as connection:
                connection.execute(insert(SETTING).values(key=KEY_NAME, value=made))
        except IntegrityError:
            # Another process was first; its key is the one.
            pass
        return self._stored()


def _bound(head: bytes, purpose: str) -> bytes:
    return b"entrepot\0" + head + purpose.encode()
