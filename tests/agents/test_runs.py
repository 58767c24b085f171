"""Runs as callers meet them: limits, cancelling, tasks, both eras, coded agents, agents that call agents."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx
import orjson
import pytest

from tests.agents.conftest import CALLER_TOLD, Running, modern
from tests.agents.support.hub import ScriptedHub, completion

pytestmark = pytest.mark.anyio

HELPER: dict[str, Any] = {
    "name": "helper",
    "description": "Helps.",
    "instructions": "Help.",
    "model": "small",
    "tools": ["things/look"],
}


async def put(agents: Running, **changes: Any) -> None:
    """Store the helper, changed."""
    manifest = HELPER | changes
    answer = await agents.client.put(f"/agents/{manifest['name']}", content=orjson.dumps(manifest))
    assert answer.status_code == 200, answer.text


async def looked(arguments: dict[str, Any]) -> dict[str, Any]:
    """A harmless tool."""
    return {"content": [{"type": "text", "text": "a cat"}]}


async def always_calls(body: dict[str, Any]) -> dict[str, Any]:
    """A model that never stops calling its tool."""
    if "tools" not in body:
        return completion("enough")
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return completion("", tool_calls=[call])


async def test_a_model_that_calls_tools_for_ever_is_stopped_by_the_token_limit(
    agents: Running, hub: ScriptedHub
) -> None:
    hub.offer("things/look", looked, readOnlyHint=True)
    hub.model = always_calls
    await put(agents, limits={"tokens": 100, "steps": 50})
    with anyio.fail_after(30):
        result = await agents.ask("helper", {"question": "go"})
    assert result["isError"]
    assert "limit of 100 tokens" in result["content"][0]["text"]
    assert len(hub.model_calls) == 2


async def test_the_loop_keeps_a_step_for_its_answer(agents: Running, hub: ScriptedHub) -> None:
    hub.offer("things/look", looked, readOnlyHint=True)
    hub.model = always_calls
    await put(agents, limits={"steps": 6})
    with anyio.fail_after(30):
        result = await agents.ask("helper", {"question": "go"})
    assert result["structuredContent"] == {"answer": "enough"}
    assert len(hub.model_calls) + len(hub.tool_calls) <= 6


async def test_a_run_ends_when_its_seconds_are_over(agents: Running, hub: ScriptedHub) -> None:
    async def silent(body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    hub.model = silent
    await put(agents, limits={"seconds": 1.5}, tools=[])
    with anyio.fail_after(30):
        result = await agents.ask("helper", {"question": "go"})
    assert "limit of 1.5 seconds" in result["content"][0]["text"]


async def test_closing_a_modern_call_cancels_its_run(agents: Running, hub: ScriptedHub) -> None:
    asked = asyncio.Event()

    async def silent(body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        return {}

    hub.model = silent
    await put(agents, tools=[])
    with anyio.fail_after(30):
        call = asyncio.create_task(agents.ask("helper", {"question": "go"}))
        await asked.wait()
        run = agents.worker.records.latest("helper")[0].id
        call.cancel()
        ended = (await agents.client.get(f"/runs/{run}/end")).json()
    assert ended["state"] == "cancelled"


async def test_a_legacy_call_shows_progress_and_is_cancelled_by_notification(agents: Running, hub: ScriptedHub) -> None:
    asked = asyncio.Event()

    async def silent(body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        return {}

    hub.offer("things/look", looked, readOnlyHint=True)
    hub.model = silent
    await put(agents, plan=[{"tool": "things/look"}])
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    with anyio.fail_after(30):
        opened = await agents.client.post("/mcp", content=orjson.dumps(begin))
        assert opened.json()["result"]["protocolVersion"] == "2025-11-25"
        headers = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        listed = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        names = (await agents.client.post("/mcp", content=orjson.dumps(listed), headers=headers)).json()
        assert "helper" in [tool["name"] for tool in names["result"]["tools"]]
        meta = {"progressToken": "p", "dev.entrepot/caller": CALLER_TOLD}
        params = {"name": "helper", "arguments": {"question": "go"}, "_meta": meta}
        call = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params}
        events: list[dict[str, Any]] = []
        async with agents.client.stream("POST", "/mcp", content=orjson.dumps(call), headers=headers) as stream:
            async for line in stream.aiter_lines():
                if not line.startswith("data:"):
                    continue
                events.append(orjson.loads(line[5:]))
                if "asking small" in str(events[-1]):
                    await asked.wait()
                    params = {"requestId": 3}
                    back = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
                    assert (
                        await agents.client.post("/mcp", content=orjson.dumps(back), headers=headers)
                    ).status_code == 202
    said = [event["params"]["message"] for event in events if event.get("method") == "notifications/progress"]
    assert said == ["step 1: look (things/look)", "step 2: asking small"]
    assert "cancelled" in events[-1]["error"]["message"]


async def test_a_task_is_durable_at_once_readable_by_its_owner_only_and_can_be_cancelled(
    agents: Running, hub: ScriptedHub
) -> None:
    async def silent(body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    hub.model = silent
    await put(agents, tools=[])
    with anyio.fail_after(30):
        started = await agents.rpc("tools/call", {"name": "helper", "arguments": {"question": "go"}}, tasks=True)
        task = started["result"]["taskId"]
        seen = await agents.rpc("tasks/get", {"taskId": task}, tasks=True)
        assert (seen["result"]["status"], seen["result"]["resultType"]) == ("working", "complete")
        other = CALLER_TOLD | {"subject": "key:ben"}
        hidden = await agents.rpc("tasks/get", {"taskId": task}, tasks=True, caller=other)
        assert hidden["error"]["code"] == -32602
        undeclared = await agents.rpc("tasks/get", {"taskId": task})
        assert undeclared["error"]["code"] == -32021
        await agents.rpc("tasks/cancel", {"taskId": task}, tasks=True)
        await agents.client.get(f"/runs/{task}/end")
        seen = await agents.rpc("tasks/get", {"taskId": task}, tasks=True)
    assert seen["result"]["status"] == "cancelled"


async def test_a_finished_task_carries_its_result(agents: Running, hub: ScriptedHub) -> None:
    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("hello")

    hub.model = model
    await put(agents, tools=[])
    with anyio.fail_after(30):
        started = await agents.rpc("tools/call", {"name": "helper", "arguments": {"question": "go"}}, tasks=True)
        task = started["result"]["taskId"]
        await agents.client.get(f"/runs/{task}/end")
        seen = await agents.rpc("tasks/get", {"taskId": task}, tasks=True)
    assert seen["result"]["status"] == "completed"
    assert seen["result"]["result"]["structuredContent"] == {"answer": "hello"}


CODED = """
import json, os, urllib.request

def post(url, body, headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())

def work(given):
    asked = {"messages": [{"role": "user", "content": given["question"]}]}
    said = post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", asked, {})
    session = {"mcp-protocol-version": "2025-11-25"}
    params = {"name": "look", "arguments": {}}
    seen = post(os.environ["MCP_URL"], {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, session)
    params = {"name": "break", "arguments": {}}
    denied = post(os.environ["MCP_URL"], {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}, session)
    text = [part["text"] for part in seen["result"]["content"]]
    assert denied["result"]["isError"]
    return {"answer": said["choices"][0]["message"]["content"] + " " + text[0]}
"""


async def test_an_agent_in_plain_python_uses_the_two_local_endpoints_and_nothing_beyond_its_manifest(
    agents: Running, hub: ScriptedHub
) -> None:
    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("I see")

    hub.offer("things/look", looked, readOnlyHint=True)
    hub.offer("things/break", looked)
    hub.model = model
    await put(agents, entry="agent.py:work", files={"agent.py": CODED})
    with anyio.fail_after(30):
        result = await agents.ask("helper", {"question": "what is there?"})
    assert result.get("structuredContent") == {"answer": "I see a cat"}, result
    assert hub.tool_calls == [("things/look", {})]
    assert hub.model_calls[0]["model"] == "small"


async def test_an_answer_outside_the_output_schema_is_asked_for_once_more_then_fails(
    agents: Running, hub: ScriptedHub
) -> None:
    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion('{"answer": 3}')

    hub.model = model
    wanted = {"type": "object", "properties": {"answer": {"type": "string"}, "n": {"type": "integer"}}}
    await put(agents, tools=[], output=wanted | {"required": ["answer", "n"]})
    with anyio.fail_after(30):
        result = await agents.ask("helper", {"question": "go"})
    assert "does not fit its output schema" in result["content"][0]["text"]
    assert len(hub.model_calls) == 2


async def test_agents_that_call_agents_stop_at_the_third(agents: Running, hub: ScriptedHub) -> None:
    async def again(arguments: dict[str, Any]) -> dict[str, Any]:
        told = hub.as_run()
        request = modern("tools/call", {"name": "helper", "arguments": {"question": "go"}}, caller=told)
        transport = httpx.AsyncHTTPTransport(uds=str(agents.socket))
        async with httpx.AsyncClient(transport=transport, timeout=60) as client:
            message = (await client.post("http://agents/mcp", content=orjson.dumps(request))).json()
        error = message.get("error")
        return message.get("result") or {"content": [{"type": "text", "text": error["message"]}], "isError": True}

    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("done")

    hub.offer("agents/helper", again)
    hub.model = model
    await put(agents, tools=["agents/helper"], plan=[{"tool": "agents/helper"}])
    with anyio.fail_after(60):
        result = await agents.ask("helper", {"question": "go"})
    assert result["structuredContent"] == {"answer": "done"}
    runs = agents.worker.records.latest("helper")
    assert sorted(run.depth for run in runs) == [0, 1, 2]
    assert {run.on_behalf_of or run.subject for run in runs} == {"key:anna"}
