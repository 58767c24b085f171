"""The five deadlines, each by name in the error that it causes, and the signs of life that keep a slow call going."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.catalog.manifest import ServerSpec
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.hub import RunningHub, events, modern_headers, modern_message, running_hub
from tests.support.upstreams import Exchange, RawServer
from tests.wire.test_servers_that_fail import CALL, Act, acting

pytestmark = pytest.mark.anyio

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


async def registered(running: RunningHub, server: RawServer, **more: Any) -> None:
    spec = ServerSpec.model_validate({"name": "slow", "url": server.url} | more)
    await running.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)


async def failed(running: RunningHub) -> dict[str, Any]:
    async with asyncio.timeout(20):
        return events(await running.modern("tools/call", CALL))[-1]["error"]


async def silent(one: Exchange) -> None:
    await asyncio.Event().wait()


async def starts_and_falls_silent(one: Exchange) -> None:
    await one.send(STREAM + b": hello\n\n")
    await asyncio.Event().wait()


async def says_much_and_never_ends(one: Exchange) -> None:
    await one.send(STREAM)
    while True:
        await one.send(b": still here\n\n")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("act", "deadline", "seconds"),
    [(silent, "call", 0.3), (starts_and_falls_silent, "idle", 0.2), (says_much_and_never_ends, "total", 0.6)],
    ids=["call", "idle", "total"],
)
async def test_the_error_and_the_audit_name_the_deadline_that_ended_a_call(
    act: Act, deadline: str, seconds: float, tmp_path: Path
) -> None:
    deadlines = {"call": 0.3, "idle": 0.2, "total": 0.6}
    async with RawServer(acting(act)) as server, running_hub(tmp_path) as running:
        await registered(running, server, deadlines=deadlines)
        error = await failed(running)
        assert error["data"]["code"] == "server-timeout"
        assert error["data"]["deadline"] == {"name": deadline, "seconds": seconds}
        assert f"its {deadline} deadline of {seconds:g} s" in error["message"]
        assert error["data"]["reconcile"]["trace"]
        segment = max(running.hub.audit.folder.glob("*hub-0*"))
        assert f"{deadline} deadline" in segment.read_text()


async def test_the_total_deadline_holds_for_a_server_that_never_answers_anything(tmp_path: Path) -> None:
    """Also where no other deadline would end the call for a long time."""
    async with RawServer(acting(silent)) as server, running_hub(tmp_path) as running:
        await registered(running, server, deadlines={"call": 600, "idle": 600, "total": 0.3})
        error = await failed(running)
        assert error["data"]["deadline"] == {"name": "total", "seconds": 0.3}
        vitals = running.hub.pool.vitals("slow")
        assert vitals is not None and vitals.running == 0
        async with asyncio.timeout(5):
            await server.left.wait()


async def test_a_list_deadline_holds_for_a_look(tmp_path: Path) -> None:
    async def never(one: Exchange) -> None:
        await asyncio.Event().wait()

    async with RawServer(never) as server, running_hub(tmp_path, list_seconds=0.2) as running:
        with pytest.raises(Exception, match="list deadline of 0.2 s"):
            await registered(running, server)


async def test_progress_extends_the_idle_deadline(tmp_path: Path) -> None:
    async def works(one: Exchange) -> None:
        await one.send(STREAM)
        for _ in range(8):
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
            await one.send(b"data: " + orjson.dumps(note) + b"\n\n")
            await asyncio.sleep(0.1)
        result: dict[str, Any] = {
            "jsonrpc": "2.0",
            "id": one.message["id"],
            "result": {"resultType": "complete", "content": []},
        }
        await one.send(b"data: " + orjson.dumps(result) + b"\n\n")
        one.close()

    async with RawServer(acting(works)) as server, running_hub(tmp_path) as running:
        await registered(running, server, deadlines={"call": 0.4, "idle": 0.4, "total": 30})
        assert "result" in events(await running.modern("tools/call", CALL))[-1]


async def test_a_late_answer_becomes_a_stream_with_signs_of_life_in_both_eras(tmp_path: Path) -> None:
    """A ten-minute tool survives a proxy that cuts what is silent for a minute; here both are scaled down."""
    async with running_hub(tmp_path, keep_alive_seconds=0.15) as running:
        behind = await running.everything()
        modern = running.bearer() | modern_headers("tools/call", {"name": "wait"})
        body = modern_message("tools/call", {"name": "wait", "arguments": {}})
        legacy = await running.session()
        plain: dict[str, Any] = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "wait", "arguments": {}},
        }
        for told, message in ((modern, body), (legacy, plain)):
            async with running.http.stream("POST", "/mcp", json=message, headers=told) as answer, asyncio.timeout(10):
                assert answer.status_code == 200
                assert answer.headers["content-type"] == "text/event-stream"
                beats = 0
                async for line in answer.aiter_lines():
                    beats += line.startswith(":")
                    if beats == 3:
                        break
            assert behind.server.started.is_set()


async def test_a_quick_answer_stays_json(tmp_path: Path) -> None:
    async with running_hub(tmp_path, keep_alive_seconds=0.15) as running:
        await running.everything()
        answer = await running.modern("tools/call", {"name": "echo", "arguments": {"text": "x"}})
        assert answer.headers["content-type"] == "application/json"


async def test_a_declaration_keeps_its_deadlines_and_shows_those_in_force(tmp_path: Path) -> None:
    async with RawServer(acting(silent)) as server, running_hub(tmp_path, call_seconds=77) as running:
        await registered(running, server, deadlines={"idle": 5}, concurrency={"calls": 3})
        shown = running.hub.catalog.show("slow")
        assert shown["deadlines"] == {"connect": 10, "list": 20, "call": 77, "idle": 5, "total": 3600}
        assert shown["concurrency"]["calls"] == 3
        assert shown["health"]["passive"]["failures"] == 5
