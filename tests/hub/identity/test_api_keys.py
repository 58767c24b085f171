"""Keys: who gets in, who does not, and what a stolen or garbled one is worth."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.db.engine import Database
from hub.db.migrate import HUB, upgrade
from hub.errors import InvalidParams, NotFound
from hub.identity.api_keys import ApiKeys
from hub.identity.principal import Principal
from hub.identity.scopes import DEFAULT_SCOPES, FAMILIES, beyond, known, narrowed
from hub.policy import actions

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.moment = 1_800_000_000.0

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    upgrade(database, HUB)
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database, clock: Clock) -> ApiKeys:
    return ApiKeys(database, clock)


async def test_a_key_authenticates_its_holder_with_default_scopes_before_and_after_a_restart(
    keys: ApiKeys, database: Database, clock: Clock
) -> None:
    row, token = await keys.create("laptop")
    principal = keys.authenticate(token)
    assert principal is not None
    assert (principal.name, principal.kind, principal.scopes) == ("laptop", "service", DEFAULT_SCOPES)
    assert principal.subject == f"key:{row.id.removeprefix('key_')}"
    restarted = ApiKeys(database, clock)
    assert restarted.authenticate(token) is None
    await restarted.load()
    assert restarted.authenticate(token.encode()) == principal


async def test_the_secret_is_stored_nowhere(keys: ApiKeys, tmp_path: Path) -> None:
    row, token = await keys.create("laptop")
    secret = token.split("_")[2]
    assert token.startswith(row.prefix)
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert all(secret not in repr(one) for one in await keys.list())


async def test_keys_that_share_a_beginning_stay_apart(keys: ApiKeys) -> None:
    """CVE-2026-35030: a cache key made of a token's first characters."""
    _, token = await keys.create("laptop")
    body, _, check = token.rpartition("_")
    for other in (body, f"{body}x_{check}", token[:-1], token[:20], f"{token}_", f"{token}\0", f"{token} "):
        assert keys.authenticate(other) is None


@pytest.mark.parametrize(
    "token", ["", "ek_", "ek__", "ek___", "ek_a_b_c", "ék_x", "\0", "ek_" + "a" * 100_000, "Bearer", "' OR 1=1 --"]
)
async def test_garbage_and_empty_tokens_are_nobody(keys: ApiKeys, token: str) -> None:
    await keys.create("laptop")
    assert keys.authenticate(token) is None
    assert keys.authenticate(token.encode()) is None


async def test_the_case_of_a_token_matters(keys: ApiKeys) -> None:
    _, token = await keys.create("laptop")
    assert keys.authenticate(token.upper()) is None


async def test_an_expired_key_is_nobody_from_its_second_on(keys: ApiKeys, clock: Clock) -> None:
    expires = datetime.fromtimestamp(clock.moment, UTC) + timedelta(seconds=60)
    _, token = await keys.create("brief", expires=expires)
    clock.moment += 59
    assert keys.authenticate(token) is not None
    clock.moment += 1
    assert keys.authenticate(token) is None
    with pytest.raises(InvalidParams):
        await keys.create("late", expires=expires)


async def test_a_revoked_key_is_nobody_at_once_and_after_a_reload(
    keys: ApiKeys, database: Database, clock: Clock
) -> None:
    row, token = await keys.create("laptop")
    other_worker = ApiKeys(database, clock)
    await other_worker.load()
    assert (await keys.revoke(row.id)).revoked is not None
    assert keys.authenticate(token) is None
    await other_worker.load()
    assert other_worker.authenticate(token) is None
    with pytest.raises(NotFound):
        await keys.revoke("key_none")


async def test_unknown_scopes_and_kinds_are_refused_by_name(keys: ApiKeys) -> None:
    with pytest.raises(InvalidParams, match="'root'.*'call:'|'call:'.*'root'"):
        await keys.create("bad", ["root", "call:", "call"])
    with pytest.raises(InvalidParams, match="superuser"):
        await keys.create("bad", kind="superuser")


async def test_an_empty_set_of_scopes_is_a_key_that_may_do_nothing(keys: ApiKeys) -> None:
    _, token = await keys.create("nothing", [])
    principal = keys.authenticate(token)
    assert principal is not None and principal.scopes == frozenset()


async def test_last_use_is_written_in_batches(keys: ApiKeys, clock: Clock) -> None:
    _, token = await keys.create("laptop")
    keys.authenticate(token)
    assert (await keys.list())[0].last_used is None
    await keys.flush()
    assert (await keys.list())[0].last_used == datetime.fromtimestamp(clock.moment, UTC)


async def test_last_use_survives_a_database_outage(keys: ApiKeys, database: Database) -> None:
    _, token = await keys.create("laptop")
    keys.authenticate(token)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE api_key RENAME TO gone")
    await keys.flush()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO api_key")
    await keys.flush()
    assert (await keys.list())[0].last_used is not None


async def test_a_run_key_names_whom_it_acts_for(keys: ApiKeys) -> None:
    _, token = await keys.create("run", ["call:rag"], kind="run", on_behalf_of="person:admin")
    principal = keys.authenticate(token)
    assert principal is not None
    assert principal.subject.startswith("run:") and principal.acts_for == "person:admin"


@pytest.mark.parametrize(
    ("asked", "held", "granted"),
    [
        ({"call"}, {"call", "models"}, {"call"}),
        ({"admin", "call"}, {"call"}, {"call"}),
        ({"call"}, {"call:rag"}, {"call:rag"}),
        ({"call:rag/search", "call:logs"}, {"call:rag"}, {"call:rag/search"}),
        ({"call:rag"}, {"call:rag/search"}, {"call:rag/search"}),
        ({"call:ragged"}, {"call:rag"}, set[str]()),
        ({"admin"}, {"admin:read"}, {"admin:read"}),
        ({"admin"}, set[str](), set[str]()),
    ],
)
def test_nobody_grants_more_than_it_holds(asked: set[str], held: set[str], granted: set[str]) -> None:
    """CVE-2026-47101: a key made with routes beyond the maker's own rights."""
    by = Principal("key:x", "x", "service", frozenset(held))
    assert narrowed(asked, by) == granted
    assert set(beyond(asked, by)) == asked - granted


def test_the_words_of_scopes_are_those_of_the_reference() -> None:
    assert DEFAULT_SCOPES == actions.DEFAULT_SCOPES
    assert FAMILIES == actions.FAMILIES
    for scope in ("call", "call:a", "call:a/b", "models", "models:m", "admin", "admin:read", "admin:write", "x", ""):
        assert known(scope) == actions.scope_is_known(scope)
