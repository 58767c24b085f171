"""Places for sessions of clients that never say good-bye: who goes, who stays, who is refused."""

from __future__ import annotations

import asyncio

import pytest

from hub.catalog.publisher import Snapshots
from hub.errors import TooMany
from hub.gateway import sessions as module
from hub.gateway.sessions import IDLE_SECONDS, Session, Sessions
from hub.upstream.jsonrpc import Message

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(sessions: Sessions, subject: str = "key:a") -> Session:
    return sessions.create(subject, "", "2025-11-25", b"{}")


def found(sessions: Sessions, session: Session) -> bool:
    return sessions.find(session.id, session.subject, session.view_key) is not None


def busy(session: Session) -> Session:
    def nothing(_notice: Message) -> None:
        """Never called here."""

    session.running[b"1"] = nothing
    return session


async def test_the_longest_idle_one_goes_also_when_the_oldest_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)
    sessions = Sessions(Clock())
    first, second, third = busy(opened(sessions)), opened(sessions, "key:b"), opened(sessions, "key:c")
    fourth = opened(sessions, "key:d")
    assert [found(sessions, one) for one in (first, second, third, fourth)] == [True, False, True, True]


async def test_one_principal_cannot_take_everybodys_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_ONE", 2)
    sessions = Sessions(Clock())
    other = opened(sessions, "key:b")
    mine = [opened(sessions) for _ in range(3)]
    assert [found(sessions, one) for one in (other, *mine)] == [True, False, True, True]
    for one in mine[1:]:
        busy(one)
    with pytest.raises(TooMany):
        opened(sessions)
    assert found(sessions, opened(sessions, "key:b"))
    sessions.drop(mine[1])
    assert found(sessions, opened(sessions))


async def test_a_sweep_takes_what_was_silent_for_too_long_and_is_not_busy() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    silent, working, late = opened(sessions), busy(opened(sessions)), opened(sessions)
    clock.now = IDLE_SECONDS / 2
    assert found(sessions, late)
    clock.now = IDLE_SECONDS + 1
    sessions.sweep()
    assert len(sessions) == 2
    assert [found(sessions, one) for one in (silent, working, late)] == [False, True, True]


async def test_sweeps_go_on_by_themselves_with_what_is_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.001)
    clock, snapshots = Clock(), Snapshots()
    sessions = Sessions(clock)
    opened(sessions)
    clock.now = IDLE_SECONDS + 1
    twice = asyncio.Semaphore(0)
    owner = asyncio.create_task(sessions.sweep_forever(snapshots, lambda snapshot: twice.release()))
    async with asyncio.timeout(5):
        await twice.acquire()
        await twice.acquire()
    owner.cancel()
    assert len(sessions) == 0
