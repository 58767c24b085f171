"""Keys: who gets in, who does not, and what a stolen or garbled one is worth."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from sqlalchemy import event

from hub.db.engine import Database
from hub.db.migrate import HUB, upgrade
from hub.errors import InvalidParams, NotFound
from hub.identity import api_keys
from hub.identity.api_keys import ApiKeys
from hub.identity.models import ApiKey
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


@contextmanager
def slowed(database: Database) -> Generator[tuple[anyio.Event, threading.Event]]:
    """Holds the next read of keys after its rows were chosen: the first event says so, the second lets it go on."""
    reached, go_on, held = anyio.Event(), threading.Event(), threading.Lock()

    def hold(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("SELECT api_key.") and held.acquire(blocking=False):
            anyio.from_thread.run_sync(reached.set)
            assert go_on.wait(10)

    event.listen(database.engine, "after_cursor_execute", hold)
    try:
        yield reached, go_on
    finally:
        go_on.set()
        event.remove(database.engine, "after_cursor_execute", hold)


async def test_a_reload_in_progress_undoes_neither_a_revocation_nor_a_new_key(
    keys: ApiKeys, database: Database
) -> None:
    row, token = await keys.create("laptop")
    done = anyio.Event()
    made: list[str] = []

    async def change() -> None:
        await keys.revoke(row.id)
        made.append((await keys.create("phone"))[1])
        done.set()

    with slowed(database) as (reached, go_on), anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(keys.load)
            await reached.wait()
            group.start_soon(change)
            # The change may wait for the reload, or be done before it: both must end well.
            with anyio.move_on_after(0.3):
                await done.wait()
            go_on.set()
    assert keys.authenticate(token) is None
    assert keys.authenticate(made[0]) is not None


async def test_a_worker_notices_keys_that_another_one_made_or_revoked(keys: ApiKeys, database: Database) -> None:
    other = ApiKeys(database)
    await other.load()
    assert not await other.stale()
    row, _ = await keys.create("laptop")
    assert (await other.stale(), await keys.stale()) == (True, False)
    await other.load()
    assert not await other.stale()
    await other.revoke(row.id)
    assert (await other.stale(), await keys.stale()) == (False, True)
    await other.create("phone")
    await keys.create("tablet")
    assert await keys.stale(), "its own change must not hide those that it has not read"
    await keys.load()
    assert not await keys.stale()


async def test_a_reload_reads_only_keys_that_still_open_something(
    keys: ApiKeys, database: Database, clock: Clock
) -> None:
    soon = datetime.fromtimestamp(clock.moment, UTC) + timedelta(seconds=60)
    await keys.create("brief", expires=soon)
    await keys.revoke((await keys.create("lost"))[0].id)
    await keys.create("laptop")
    clock.moment += 61
    read: list[str] = []

    def note(instance: Any, _context: Any) -> None:
        read.append(instance.name)

    event.listen(ApiKey, "load", note)
    try:
        await ApiKeys(database, clock).load()
    finally:
        event.remove(ApiKey, "load", note)
    assert read == ["laptop"]


async def test_the_keys_of_runs_leave_nothing_behind(keys: ApiKeys, clock: Clock) -> None:
    def end(**after: int) -> datetime:
        return datetime.fromtimestamp(clock.moment, UTC) + timedelta(**after)

    revoked, token = await keys.create("run 1", kind="run", expires=end(hours=1))
    await keys.create("run 2", kind="run", expires=end(hours=1))
    await keys.create("laptop", expires=end(hours=1))
    assert (await keys.revoke(revoked.id)).revoked is not None
    assert keys.authenticate(token) is None
    assert {row.name for row in await keys.list()} == {"laptop", "run 2"}
    clock.moment += 24 * 3600
    await keys.prune()
    assert len(await keys.list()) == 2
    clock.moment += 2 * 3600
    await keys.prune()
    assert [row.name for row in await keys.list()] == ["laptop"]


async def test_people_see_the_latest_revoked_keys_for_some_time(
    keys: ApiKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "REVOKED_LISTED", 2)
    for name in ("one", "two", "three", "four"):
        clock.moment += 1
        row, _ = await keys.create(name)
        if name != "one":
            await keys.revoke(row.id)
    assert [row.name for row in await keys.list()] == ["four", "three", "one"]
    clock.moment += 100 * 24 * 3600
    await keys.prune()
    assert [row.name for row in await keys.list()] == ["one"]


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
