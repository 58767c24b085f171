"""Signing in by link, staying signed in by cookie, and the token that forms carry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from hub.db.engine import Database
from hub.db.migrate import HUB, upgrade
from hub.errors import InvalidParams, Unauthenticated
from hub.identity.sessions import LINK_SECONDS, SESSION_SECONDS, Cookie, Sessions

pytestmark = pytest.mark.anyio


class Clock:
    moment = 1_800_000_000.0

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Iterator[Sessions]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    upgrade(database, HUB)
    yield Sessions(database, "http://127.0.0.1:4180", clock)
    database.close()


async def test_a_link_signs_the_administrator_in_once(sessions: Sessions) -> None:
    token = await sessions.create_link()
    cookie = await sessions.redeem(token)
    principal = await sessions.principal(cookie)
    assert principal is not None
    assert (principal.subject, principal.kind) == ("person:admin", "person")
    assert principal.scopes == {"call", "models", "admin"}
    with pytest.raises(Unauthenticated):
        await sessions.redeem(token)


async def test_of_many_browsers_with_one_link_exactly_one_gets_in(sessions: Sessions) -> None:
    token = await sessions.create_link()
    won: list[str] = []

    async def try_it() -> None:
        with suppress(Unauthenticated):
            won.append(await sessions.redeem(token))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(try_it)
    assert len(won) == 1


async def test_links_and_sessions_end_with_their_time(sessions: Sessions, clock: Clock) -> None:
    stale = await sessions.create_link()
    cookie = await sessions.redeem(await sessions.create_link())
    clock.moment += LINK_SECONDS
    with pytest.raises(Unauthenticated):
        await sessions.redeem(stale)
    clock.moment += SESSION_SECONDS - LINK_SECONDS - 1
    assert await sessions.principal(cookie) is not None
    clock.moment += 1
    assert await sessions.principal(cookie) is None


async def test_signing_out_ends_the_session(sessions: Sessions) -> None:
    cookie = await sessions.redeem(await sessions.create_link())
    await sessions.sign_out(cookie)
    assert await sessions.principal(cookie) is None


@pytest.mark.parametrize("secret", ["", "\0", "é", "a" * 10_000, "' OR ''='", "none"])
async def test_garbage_is_nobody(sessions: Sessions, secret: str) -> None:
    assert await sessions.principal(secret) is None
    with pytest.raises(Unauthenticated):
        await sessions.redeem(secret)


async def test_only_the_administrator_administers_and_only_persons_sign_in(sessions: Sessions) -> None:
    other = await sessions.principal(await sessions.redeem(await sessions.create_link("person:ada")))
    assert other is not None and "admin" not in other.scopes
    with pytest.raises(InvalidParams):
        await sessions.create_link("key:x")


async def test_a_form_token_fits_its_own_session_only(sessions: Sessions) -> None:
    mine = await sessions.redeem(await sessions.create_link())
    yours = await sessions.redeem(await sessions.create_link())
    assert sessions.check_csrf(mine, sessions.csrf(mine))
    for cookie, token in ((mine, sessions.csrf(yours)), (mine, ""), ("", sessions.csrf("")), (mine, mine)):
        assert not sessions.check_csrf(cookie, token)


async def test_the_cookie_is_hidden_from_scripts_and_bound_to_the_host_over_tls() -> None:
    plain, tls = Cookie.at("http://127.0.0.1:4180").set("v"), Cookie.at("https://hub.example").set("v")
    assert plain.startswith("entrepot_session_4180=v; Path=/;")
    assert tls.startswith("__Host-entrepot=v; Path=/;") and tls.endswith("; Secure")
    assert all("HttpOnly; SameSite=Lax" in one for one in (plain, tls))
    assert "Max-Age=0" in Cookie.at("https://hub.example").clear()
