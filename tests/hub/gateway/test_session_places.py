"""Places for sessions of clients that never say good-bye: who goes, who stays, who is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.catalog.publisher import Snapshots
from hub.errors import TooMany
from hub.gateway import sessions as module
from hub.gateway.handles import Handshake
from hub.gateway.sessions import IDLE_SECONDS, Session, Sessions
from hub.upstream.jsonrpc import Message
from tests.support.hub import RunningHub, events
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(sessions: Sessions, subject: str = "key:a") -> Session:
    return sessions.create(Handshake(subject, "", "2025-11-25", b"{}"))


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


async def test_clients_that_come_and_go_without_a_word_leave_nothing_at_the_server(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field, P6, in short; `make soak` does it 50,000 times and looks at the memory."""
    monkeypatch.setattr(module, "MOST_OF_ONE", 5)
    open_: set[str] = set()

    async def act(one: Exchange) -> None:
        head = one.head.decode("latin-1").lower()
        if head.startswith("delete"):
            open_.difference_update(line.partition(": ")[2] for line in head.split("\r\n") if "mcp-session-id" in line)
            await one.whole(b"{}")
        elif one.message.get("method") == "initialize":
            session = f"session{len(seen)}"
            seen.append(session)
            open_.add(session)
            facts: dict[str, Any] = {"tools": {}}
            told = {"protocolVersion": "2025-11-25", "capabilities": facts, "serverInfo": {"name": "s", "version": "1"}}
            await one.answer(told, headers=f"mcp-session-id: {session}\r\n")
        elif one.message.get("method") == "tools/list":
            await one.answer({"tools": [{"name": "work", "inputSchema": {"type": "object"}}]})
        elif one.message.get("id") is not None and one.message.get("method") == "tools/call":
            await one.answer({"content": []})
        else:
            await one.whole(b"", "202 Accepted" if one.message else "405 Method Not Allowed")

    seen: list[str] = []
    server = await running.servers.enter_async_context(RawServer(act))
    await running.register("counted", server.url, "legacy")
    params: dict[str, Any] = {"name": "work", "arguments": {}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    for _ in range(30):
        headers = await running.session()
        assert "result" in events(await running.http.post("/mcp", json=call, headers=headers))[-1]
    for _ in range(5):
        # What health checks do: each look opens a session of its own, and ends it.
        await running.refresh("counted")
    async with asyncio.timeout(5):
        while len(open_) > 5:
            await asyncio.sleep(0.01)
    assert len(seen) >= 30 + 5
    assert len(running.hub.legacy_sessions) == 5
