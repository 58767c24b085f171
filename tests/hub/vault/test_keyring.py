"""What is sealed opens with the same purpose, here and in other processes, and in no other way."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from hub.db.engine import Database
from hub.db.migrate import HUB, upgrade
from hub.errors import InvalidParams, Unavailable
from hub.vault.keyring import Keyring, Secret


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    upgrade(database, HUB)
    yield database
    database.close()


def test_a_value_opens_with_its_purpose_also_after_a_restart(database: Database) -> None:
    sealed = Keyring(database).seal("model/key", b"\0secret")
    assert Keyring(database).open("model/key", sealed) == b"\0secret"
    assert "secret" not in sealed and sealed.isascii()
    assert Keyring(database).seal("model/key", b"\0secret") != sealed


def test_every_change_and_every_other_purpose_is_refused(database: Database) -> None:
    keyring = Keyring(database)
    sealed = keyring.seal("a", b"value")
    with pytest.raises(InvalidParams):
        keyring.open("b", sealed)
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for place in range(len(raw)):
        changed = raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]
        with pytest.raises(InvalidParams):
            keyring.open("a", base64.urlsafe_b64encode(changed).decode())
    for garbage in ("", "AQ", "é", "!!!!", sealed[:-4], "A" * 1000):
        with pytest.raises(InvalidParams):
            keyring.open("a", garbage)


def test_processes_that_start_together_agree_on_one_key(database: Database) -> None:
    keyrings = [Keyring(database) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Keyring.load, keyrings))
    sealed = keyrings[0].seal("a", b"value")
    assert {keyring.open("a", sealed) for keyring in keyrings} == {b"value"}


def test_a_newer_key_seals_while_the_old_one_still_opens(database: Database) -> None:
    old = Keyring(database).seal("a", b"old")
    with database.engine.begin() as connection:
        value = connection.exec_driver_sql("SELECT value FROM setting WHERE key = 'seal-key'").scalar_one()
        both = orjson.loads(value) | {"2": base64.b64encode(b"k" * 32).decode()}
        connection.exec_driver_sql("UPDATE setting SET value = ?", (orjson.dumps(both).decode(),))
    keyring = Keyring(database)
    assert keyring.open("a", old) == b"old"
    with pytest.raises(InvalidParams):
        other = Database("sqlite://")
        upgrade_in_memory(other)
        Keyring(other).open("a", keyring.seal("a", b"new"))


def upgrade_in_memory(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT)")


@pytest.mark.parametrize("stored", ["{}", "[]", "x", '{"1": "short"}', '{"one": "a"}', '{"1": 5}'])
def test_a_damaged_or_empty_key_is_an_error_and_never_a_key(database: Database, stored: str) -> None:
    """CVE-2026-46701: an empty secret that meant open."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO setting VALUES ('seal-key', ?)", (stored,))
    with pytest.raises(Unavailable):
        Keyring(database).seal("a", b"value")


def test_a_secret_prints_nowhere() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret:>20} {[secret]} {vars(type(secret))}"
    assert secret.reveal() == "hunter2" and secret == Secret("hunter2") and not Secret("")
    with pytest.raises(TypeError):
        pickle.dumps(secret)
