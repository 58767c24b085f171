"""A call that takes long becomes a task of the hub's, whatever its server knows of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import create_engine

from hub.gateway.own import OWN
from hub.gateway.seals import Seals
from hub.gateway.task_records import SILENT_SECONDS, TaskRecords, TaskRow
from hub.ids import now
from tests.support.hub import META, Era, RunningHub, events, modern_headers, modern_message, running_hub

pytestmark = pytest.mark.anyio

TASKS = f"{META}tasks"
KNOWS: dict[str, Any] = {f"{META}clientCapabilities": {"extensions": {TASKS: {}}, "elicitation": {"form": {}}}}
ERAS: tuple[Era, Era] = ("modern", "legacy")


@pytest.fixture
async def running(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[RunningHub]:
    """A hub that makes a task of what takes longer than a moment."""
    async with running_hub(tmp_path, task_after_seconds=0.1) as running:
        yield running


async def ask(running: RunningHub, method: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One request of a client that knows tasks: the result, or the error."""
    name = {"mcp-name": params["taskId"]} if "taskId" in params else {}
    answer = await running.modern(method, params, meta=more.pop("meta", KNOWS), headers=name, **more)
    told = events(answer)[-1]
    return told.get("result") or told["error"]


async def until(running: RunningHub, task: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            state = await ask(running, "tasks/get", {"taskId": task})
            if state["status"] == status:
                return state
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_call_becomes_a_task_and_its_result_is_kept(running: RunningHub, era: Era) -> None:
    behind = await running.everything(only=era)
    begun = await ask(running, "tools/call", {"name": "ask_later", "arguments": {}})
    assert (begun["resultType"], begun["status"]) == ("task", "working")
    state = await ask(running, "tasks/get", {"taskId": begun["taskId"]})
    assert (state["resultType"], state["status"]) == ("complete", "working")
    assert state["createdAt"] == begun["createdAt"] and state["ttlMs"] > 0 and state["pollIntervalMs"] > 0
    behind.server.released.set()
    asked = await until(running, begun["taskId"], "input_required")
    (key,) = asked["inputRequests"]
    assert asked["inputRequests"][key]["method"] == "elicitation/create"
    ignored: dict[str, Any] = {"9.nothing": {"action": "accept", "content": {}}}
    acknowledged = await ask(running, "tasks/update", {"taskId": begun["taskId"], "inputResponses": ignored})
    assert acknowledged == {"resultType": "complete"}
    answers = {key: {"action": "accept", "content": {"name": "Ann"}}}
    await ask(running, "tasks/update", {"taskId": begun["taskId"], "inputResponses": answers})
    done = await until(running, begun["taskId"], "completed")
    assert done["result"]["content"][0]["text"] == "Hello, Ann!"
    assert "inputRequests" not in done


async def test_a_quick_call_and_a_client_without_tasks_get_answers(running: RunningHub) -> None:
    behind = await running.everything()
    quick = await ask(running, "tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    assert quick["resultType"] == "complete"
    behind.server.released.set()
    plain: dict[str, Any] = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}
    asked = await ask(running, "tools/call", {"name": "ask_later", "arguments": {}}, meta=plain)
    assert asked["resultType"] == "input_required"
    undeclared = await running.modern("tasks/get", {"taskId": "x"}, headers={"mcp-name": "x"})
    assert undeclared.status_code == 400
    assert undeclared.json()["error"]["code"] == -32021
    assert undeclared.json()["error"]["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_task_is_cancelled_at_its_server(running: RunningHub, era: Era) -> None:
    behind = await running.everything(only=era)
    begun = await ask(running, "tools/call", {"name": "wait", "arguments": {}})
    assert await ask(running, "tasks/cancel", {"taskId": begun["taskId"]}) == {"resultType": "complete"}
    async with asyncio.timeout(10):
        await behind.server.cancelled.wait()
    assert (await until(running, begun["taskId"], "cancelled"))["statusMessage"] == "cancelled"
    assert await ask(running, "tasks/cancel", {"taskId": begun["taskId"]}) == {"resultType": "complete"}


async def test_a_task_belongs_to_its_principal(running: RunningHub) -> None:
    await running.everything()
    begun = await ask(running, "tools/call", {"name": "wait", "arguments": {}})
    other = await running.key("other")
    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        assert (await ask(running, method, {"taskId": begun["taskId"]}, token=other))["code"] == -32602
        assert (await ask(running, method, {"taskId": "made-up"}))["code"] == -32602
    assert (await ask(running, "tasks/get", {"taskId": begun["taskId"]}))["status"] == "working"


async def test_a_failure_is_the_tasks_error_and_a_tools_own_is_its_result(running: RunningHub) -> None:
    behind = await running.everything()
    begun = await ask(running, "tools/call", {"name": "fail_later", "arguments": {}})
    behind.server.released.set()
    failed = await until(running, begun["taskId"], "failed")
    assert failed["error"]["message"] == "It failed."


async def test_a_task_whose_worker_died_is_told_as_lost_by_any_worker(running: RunningHub) -> None:
    records, seals = TaskRecords(running.hub.database), Seals(running.hub.keyring)
    row = TaskRow(id="task_x", subject="", worker=7, server="s", tool="t", status="working", ttl_seconds=60)
    principal = running.hub.keys.authenticate(running.token)
    assert principal is not None
    row.subject = principal.acts_for
    row.seen = row.updated = now() - timedelta(seconds=SILENT_SECONDS + 1)
    await records.put(row)
    sealed = str(orjson.loads(seals.wrap("task", principal, OWN, b'"task_x"')))
    lost = await ask(running, "tasks/get", {"taskId": sealed})
    assert lost["status"] == "failed" and lost["statusMessage"].startswith("outcome unknown")
    assert lost["error"]["data"]["code"] == "outcome-unknown" and "Check" in lost["error"]["data"]["hint"]
    assert await ask(running, "tasks/cancel", {"taskId": sealed}) == {"resultType": "complete"}


async def test_a_worker_that_starts_again_finds_what_it_left_and_forgets_what_is_old(running: RunningHub) -> None:
    records = TaskRecords(running.hub.database)
    old = now() - timedelta(seconds=100)
    for name, worker, status, seen in (
        ("mine", 3, "working", now()),
        ("other", 4, "working", now()),
        ("kept", 3, "completed", now()),
        ("old", 3, "completed", old),
    ):
        row = TaskRow(id=name, subject="s", worker=worker, server="s", tool="t", status=status, ttl_seconds=60)
        row.seen = row.updated = seen
        await records.put(row)
    assert await records.take_over(3) == 1
    await records.sweep()
    found = {name: await records.get(name) for name in ("mine", "other", "kept", "old")}
    assert {name: row and row.status for name, row in found.items()} == {
        "mine": "failed",
        "other": "working",
        "kept": "completed",
        "old": None,
    }


async def test_a_listen_stream_tells_of_tasks(running: RunningHub) -> None:
    behind = await running.everything()
    begun = await ask(running, "tools/call", {"name": "fail_later", "arguments": {}})
    wanted = {"notifications": {"taskIds": [begun["taskId"], "made-up"]}}
    heard: list[dict[str, Any]] = []
    message = modern_message("subscriptions/listen", wanted, 5, KNOWS)
    headers = modern_headers("subscriptions/listen") | running.bearer()
    headers = {name: value for name, value in headers.items() if value}
    async with asyncio.timeout(10), running.http.stream("POST", "/mcp", json=message, headers=headers) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data: "):
                continue
            heard.append(orjson.loads(line[6:]))
            if len(heard) == 2:
                behind.server.released.set()
            if len(heard) == 3:
                break
    assert heard[0]["params"]["notifications"] == {"taskIds": [begun["taskId"]]}
    assert [one["method"] for one in heard[1:]] == ["notifications/tasks"] * 2
    assert [one["params"]["status"] for one in heard[1:]] == ["working", "failed"]
    assert heard[2]["params"]["error"]["message"] == "It failed."
    assert heard[2]["params"]["taskId"] == begun["taskId"]
    assert heard[2]["params"]["_meta"][f"{META}subscriptionId"] == 5


async def test_discovery_tells_of_tasks_to_modern_clients_only(running: RunningHub) -> None:
    await running.everything(only="legacy")
    found = await ask(running, "server/discover", {})
    assert found["capabilities"]["extensions"][TASKS] == {}
    capabilities = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": capabilities}
    accept = {"accept": "application/json, text/event-stream"}
    greeted = (await running.http.post("/mcp", json=hello, headers=running.bearer() | accept)).json()
    assert not {"tasks", "extensions"} & greeted["result"]["capabilities"].keys()


async def test_a_call_whose_task_cannot_be_stored_stays_a_call(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = await running.everything()
    stored = running.hub.database.engine
    with monkeypatch.context() as broken:
        # As when the database cannot be reached: every attempt to write fails.
        broken.setattr(running.hub.database, "engine", create_engine("sqlite:////nowhere/at/all.db"))
        asking = asyncio.create_task(ask(running, "tools/call", {"name": "fail_later", "arguments": {}}))
        await asyncio.wait({asking}, timeout=0.5)
        behind.server.released.set()
        assert (await asking)["message"] == "It failed."
    assert running.hub.database.engine is stored
