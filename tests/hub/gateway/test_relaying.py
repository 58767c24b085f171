"""One era on both sides: what a server says arrives as it was said, under the caller's id."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import orjson
import pytest
from mcp import MCPError

from tests.support.hub import META, Era, RunningHub, events, modern_headers, modern_message

pytestmark = pytest.mark.anyio

ERAS: tuple[Era, Era] = ("modern", "legacy")
ECHO: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}


@pytest.mark.parametrize("identifier", [1, "1", 0, "a\u4f60", -5, 'x"y'])
async def test_the_callers_id_comes_back_with_its_type(running: RunningHub, identifier: Any) -> None:
    await running.everything()
    told = events(await running.modern("tools/call", ECHO, identifier=identifier))[-1]["id"]
    assert (type(told), told) == (type(identifier), identifier)
    headers = await running.session()
    body = {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": ECHO}
    told = events(await running.http.post("/mcp", json=body, headers=headers))[-1]["id"]
    assert (type(told), told) == (type(identifier), identifier)


@pytest.mark.parametrize("era", ERAS)
async def test_every_kind_of_thing_is_relayed(running: RunningHub, era: Era) -> None:
    await running.everything()
    async with running.connect(era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "$defs" in tools["json_schema_2020_12_tool"].input_schema
        called = await client.call_tool("echo", {"text": "hi"})
        assert called.structured_content == {"text": "hi", "server": "everything"}
        read = await client.read_resource("test://template/9/data")
        assert '"id":"9"' in getattr(read.contents[0], "text", "")
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "x", "arg2": "y"})
        assert "arg1='x'" in getattr(prompt.messages[0].content, "text", "")
        reference = types.PromptReference(name="test_prompt_with_arguments")
        completed = await client.complete(reference, {"name": "arg1", "value": "pa"})
        assert completed.completion.values == ["paris"]


@pytest.mark.parametrize("era", ERAS)
async def test_progress_reaches_the_caller_before_the_result(running: RunningHub, era: Era) -> None:
    await running.everything()
    heard: list[float] = []

    async def heard_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with running.connect(era) as client:
        await client.call_tool("test_tool_with_progress", progress_callback=heard_progress)
    assert heard == [0, 50, 100]


@pytest.mark.parametrize("era", ERAS)
async def test_colliding_names_are_prefixed_and_reach_the_right_server(running: RunningHub, era: Era) -> None:
    await running.everything("one")
    await running.everything("two")
    async with running.connect(era) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"one__echo", "two__echo"} <= names
        for server in ("one", "two"):
            called = await client.call_tool(f"{server}__echo", {"text": "hi"})
            assert called.structured_content == {"text": "hi", "server": server}
        prompt = await client.get_prompt("two__test_simple_prompt")
        assert prompt.messages
    async with running.connect(era, "/mcp/s/two") as client:
        called = await client.call_tool("echo", {"text": "hi"})
        assert called.structured_content == {"text": "hi", "server": "two"}


async def test_a_callers_leaving_cancels_at_the_server_in_the_modern_era(running: RunningHub) -> None:
    behind = await running.everything()
    call = asyncio.create_task(running.modern("tools/call", {"name": "wait"}))
    async with asyncio.timeout(10):
        await behind.server.started.wait()
        call.cancel()
        await behind.server.cancelled.wait()


async def test_a_notification_cancels_at_the_server_in_the_legacy_era(running: RunningHub) -> None:
    behind = await running.everything()
    headers = await running.session()
    body = {"jsonrpc": "2.0", "id": "w", "method": "tools/call", "params": {"name": "wait"}}
    call = asyncio.create_task(running.http.post("/mcp", json=body, headers=headers))
    async with asyncio.timeout(10):
        await behind.server.started.wait()
        notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "w"}}
        assert (await running.http.post("/mcp", json=notice, headers=headers)).status_code == 202
        await behind.server.cancelled.wait()
        await call


async def test_a_legacy_callers_disconnect_is_not_a_cancellation(running: RunningHub) -> None:
    behind = await running.everything()
    headers = await running.session()
    body = {"jsonrpc": "2.0", "id": "w", "method": "tools/call", "params": {"name": "wait"}}
    call = asyncio.create_task(running.http.post("/mcp", json=body, headers=headers))
    async with asyncio.timeout(10):
        await behind.server.started.wait()
    call.cancel()
    ping = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": ECHO}
    assert (await running.http.post("/mcp", json=ping, headers=headers)).status_code == 200
    assert not behind.server.cancelled.is_set()


@pytest.mark.parametrize("path", ["/mcp", "/mcp/s/everything"])
async def test_list_changes_reach_a_modern_listener_after_the_hub_knows_them(running: RunningHub, path: str) -> None:
    behind = await running.everything()
    await until_watched(behind)
    async with running.connect("modern", path) as client, client.listen(tools_list_changed=True) as changes:
        await behind.server.change_tools()
        async with asyncio.timeout(5):
            await anext(aiter(changes))
        names = {tool["name"] for tool in events(await running.modern("tools/list", path=path))[-1]["result"]["tools"]}
    assert "test_added_tool" in names


@pytest.mark.parametrize("only", ["", "legacy"])
async def test_list_changes_reach_a_legacy_client_after_the_hub_knows_them(running: RunningHub, only: Any) -> None:
    behind = await running.everything(only=only)
    await until_watched(behind)
    heard = asyncio.Event()

    async def handle(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            heard.set()

    async with running.connect("legacy", message_handler=handle) as client:
        await client.call_tool("echo", {"text": "opens the session behind"})
        await behind.server.change_tools()
        async with asyncio.timeout(5):
            await heard.wait()
        assert "test_added_tool" in {tool.name for tool in (await client.list_tools()).tools}


async def until_watched(behind: Any) -> None:
    """Wait until the hub listens to a server for its changes."""
    async with asyncio.timeout(5):
        while not behind.recorded.asked("subscriptions/listen") and not any(
            seen.method == "GET" for seen in behind.recorded.seen
        ):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)


async def test_a_followed_resources_update_reaches_a_modern_listener(running: RunningHub) -> None:
    behind = await running.everything()
    body = modern_message(
        "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["test://static-text"]}}, 9
    )
    headers = modern_headers("subscriptions/listen") | running.bearer()
    seen: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(5),
        running.http.stream("POST", "/mcp", json=body, headers={k: v for k, v in headers.items() if v}) as answer,
    ):
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            seen.append(orjson.loads(line[6:]))
            if len(seen) == 2:
                break
            while len(behind.recorded.asked("subscriptions/listen")) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            await behind.server.update("test://static-text")
    assert [one["method"] for one in seen] == [
        "notifications/subscriptions/acknowledged",
        "notifications/resources/updated",
    ]
    assert all(one["params"]["_meta"][f"{META}subscriptionId"] == 9 for one in seen)


@pytest.mark.parametrize("tool", ["test_elicitation", "test_sampling"])
async def test_a_legacy_servers_questions_reach_its_caller(running: RunningHub, tool: str) -> None:
    await running.everything()

    async def elicit(_ctx: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"username": params.message, "email": "e"})

    async def sample(_ctx: Any, params: Any) -> types.CreateMessageResult:
        said = types.TextContent(text="sampled")
        return types.CreateMessageResult(role="assistant", content=said, model="m")

    async with running.connect("legacy", elicitation_callback=elicit, sampling_callback=sample) as client:
        answer = await client.call_tool(tool, {"message": "Who?", "prompt": "Say"})
    said = getattr(answer.content[0], "text", "")
    assert ("Who?" in said) if tool == "test_elicitation" else ("sampled" in said)


async def test_state_of_another_principal_is_refused(running: RunningHub) -> None:
    behind = await running.everything()
    params: dict[str, Any] = {"name": "test_input_required_result_request_state", "arguments": {}}
    asked = (await running.modern("tools/call", params)).json()["result"]
    answered = params | {
        "requestState": asked["requestState"],
        "inputResponses": {"confirm": {"action": "accept", "content": {"ok": True}}},
    }
    other = await running.key("other", ["call"])
    before = len(behind.server.calls)
    refused = (await running.modern("tools/call", answered, token=other)).json()
    assert refused["error"]["code"] == -32602
    assert len(behind.server.calls) == before
    accepted = (await running.modern("tools/call", answered)).json()
    assert accepted["result"]["content"][0]["text"] == "state-ok"


async def test_a_session_of_another_principal_does_not_exist(running: RunningHub) -> None:
    await running.everything()
    headers = await running.session()
    other = headers | running.bearer(await running.key("other", ["call"]))
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await running.http.post("/mcp", json=ping, headers=headers)).status_code == 200
    for answer in (
        await running.http.post("/mcp", json=ping, headers=other),
        await running.http.get("/mcp", headers=other),
        await running.http.delete("/mcp", headers=other),
        await running.http.post("/mcp/s/everything", json=ping, headers=headers),
    ):
        assert answer.status_code == 404
    assert (await running.http.delete("/mcp", headers=headers)).status_code == 200
    assert (await running.http.post("/mcp", json=ping, headers=headers)).status_code == 404


async def test_neither_credential_nor_forged_caller_reach_a_server(running: RunningHub) -> None:
    behind = await running.everything()
    meta = {"dev.entrepot/caller": {"subject": "local:admin", "scopes": ["admin"]}, "traceparent": "00-" + "a" * 32}
    headers = {"cookie": "a=b", "x-entrepot-principal": "local:admin", "proxy-authorization": "Basic eDp5"}
    await running.modern("tools/call", ECHO, meta=meta, headers=headers)
    session = await running.session()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ECHO | {"_meta": meta}}
    await running.http.post("/mcp", json=body, headers=session)
    calls = behind.recorded.asked("tools/call")
    assert len(calls) == 2
    for call in calls:
        assert "dev.entrepot/caller" not in call.message["params"]["_meta"]
        assert "traceparent" in call.message["params"]["_meta"]
    for seen in behind.recorded.seen:
        assert not {"authorization", "cookie", "x-entrepot-principal", "proxy-authorization"} & seen.headers.keys()
        assert running.token.encode() not in seen.body


async def test_an_unknown_tool_of_a_legacy_client_is_an_error_not_a_dead_session(running: RunningHub) -> None:
    await running.everything()
    async with running.connect("legacy") as client:
        with pytest.raises(MCPError, match="Unknown tool: nope"):
            await client.call_tool("nope")
        assert (await client.call_tool("echo", {"text": "still"})).structured_content


async def test_a_repeated_key_leaves_one_meaning(running: RunningHub) -> None:
    behind = await running.everything()
    message = orjson.dumps(modern_message("tools/call", ECHO)).decode()
    twice = message.replace('"name":"echo"', '"name":"wait","name":"echo"').encode()
    headers = {k: v for k, v in (modern_headers("tools/call", ECHO) | running.bearer()).items() if v}
    answer = await running.http.post("/mcp", content=twice, headers=headers)
    assert answer.json()["result"]["structuredContent"]["text"] == "hi"
    assert behind.recorded.asked("tools/call")[0].body.count(b'"name"') == 1
