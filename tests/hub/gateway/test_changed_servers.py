"""Sessions held with servers: what a changed registration, a forgetful server or long silence does to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.catalog.manifest import ServerSpec
from hub.catalog.snapshot import EMPTY
from hub.gateway.bridged import IDLE_SECONDS, BridgedSessions
from hub.gateway.questions import NONE
from hub.identity.principal import LOCAL_ADMINISTRATOR
from hub.upstream.jsonrpc import Message
from hub.upstream.pool import Pool
from hub.upstream.terms import Deadlines, Terms
from tests.support.everything import Everything
from tests.support.hub import Era, RunningHub, events
from tests.support.legacy import CALL, legacy
from tests.support.upstreams import Exchange, RawServer, Recorded, serving

pytestmark = pytest.mark.anyio

ECHO: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}


async def test_a_changed_registration_moves_open_sessions_to_the_new_address(running: RunningHub) -> None:
    old = await running.everything(only="legacy")
    headers = await running.session()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ECHO}
    assert "result" in events(await running.http.post("/mcp", json=body, headers=headers))[-1]
    new = Recorded(Everything("everything").app(), "legacy")
    base = await running.servers.enter_async_context(serving(new))
    await running.hub.catalog.change(LOCAL_ADMINISTRATOR, ServerSpec(name="everything", url=f"{base}/mcp"))
    before = len(old.recorded.asked("tools/call"))
    assert "result" in events(await running.http.post("/mcp", json=body, headers=headers))[-1]
    level = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "info"}}
    await running.http.post("/mcp", json=level, headers=headers)
    assert len(old.recorded.asked("tools/call")) == before
    assert not old.recorded.asked("logging/setLevel")
    assert len(new.asked("tools/call")) == 1
    assert len(new.asked("logging/setLevel")) == 1


async def test_nothing_goes_to_a_server_that_was_removed(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    headers = await running.session()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ECHO}
    await running.http.post("/mcp", json=body, headers=headers)
    await running.hub.catalog.remove(LOCAL_ADMINISTRATOR, "everything")
    level = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "info"}}
    await running.http.post("/mcp", json=level, headers=headers)
    assert not behind.recorded.asked("logging/setLevel")


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_session_refused_with_400_is_opened_anew_once(running: RunningHub, era: Era) -> None:
    known: list[bytes] = [b"first"]

    async def act(one: Exchange) -> None:
        if known:
            await one.answer({"content": []})
            known.clear()
            return
        error = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID"}}'
        known.append(b"again")
        await one.whole(error, "400 Bad Request")

    async with RawServer(legacy(act)) as server, asyncio.timeout(5):
        await running.register("raw", server.url)
        headers = await running.session() if era == "legacy" else {}
        for number in (1, 2):
            if era == "modern":
                answer = await running.modern("tools/call", CALL)
            else:
                body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": CALL}
                answer = await running.http.post("/mcp", json=body, headers=headers)
            assert "result" in events(answer)[-1]
        calls = [one for one in server.seen if one.message.get("method") == "tools/call"]
        assert len(calls) == 3


async def test_sessions_held_for_modern_clients_end_with_their_registration(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    await running.modern("tools/call", ECHO)
    session = behind.recorded.asked("tools/call")[-1].headers["mcp-session-id"]
    running.hub.bridge.sweep(running.hub.snapshots.current)
    await running.modern("tools/call", ECHO)
    assert behind.recorded.asked("tools/call")[-1].headers["mcp-session-id"] == session
    running.hub.bridge.sweep(EMPTY)
    await running.hub.bridge.close()
    assert [one.headers["mcp-session-id"] for one in behind.recorded.seen if one.method == "DELETE"][-1] == session


async def test_sessions_held_for_modern_clients_end_when_idle(running: RunningHub) -> None:
    await running.everything(only="legacy")
    snapshot = running.hub.snapshots.current
    server = snapshot.servers["everything"]
    now = 0.0
    pool = Pool(Terms(Deadlines(2, 5)))
    held = BridgedSessions(pool, lambda: now)

    async def ignore(_message: Message) -> None:
        """Nothing is expected."""

    for subject in ("run:1", "run:2"):
        held.give_back(await held.lend(server, subject, NONE, ignore))
    now = IDLE_SECONDS - 1
    held.give_back(await held.lend(server, "run:2", NONE, ignore))
    held.sweep(snapshot)
    assert len(held) == 2
    now = IDLE_SECONDS + 1
    held.sweep(snapshot)
    assert len(held) == 1
    used = await held.lend(server, "run:2", NONE, ignore)
    now = 3 * IDLE_SECONDS
    held.sweep(snapshot)
    assert len(held) == 1, "a call may rest for long"
    held.give_back(used)
    await held.close()
    pool.close()
