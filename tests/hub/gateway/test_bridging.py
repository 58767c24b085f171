"""A client and a server of different eras, with the hub between them."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import MCPError
from mcp.shared.exceptions import MCPDeprecationWarning

from tests.support.hub import META, Era, RunningHub, events

pytestmark = pytest.mark.anyio

PAIRS: tuple[tuple[Era, Literal["modern", "legacy"]], ...] = (("legacy", "modern"), ("modern", "legacy"))


@pytest.mark.parametrize(("client_era", "server_era"), PAIRS)
async def test_all_kinds_of_things_cross(running: RunningHub, client_era: Era, server_era: Any) -> None:
    behind = await running.everything(only=server_era)
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with running.connect(client_era) as client:
        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}
        assert (await client.call_tool("echo", {"text": "hi"})).structured_content
        assert (await client.call_tool("test_mirrored_header", {"region": "\u4e1c"})).content
        await client.call_tool("test_tool_with_progress", progress_callback=hear)
        assert (await client.call_tool("test_error_handling")).is_error
        assert (await client.read_resource("test://static-text")).contents
        assert (await client.get_prompt("test_simple_prompt")).messages
        with pytest.raises(MCPError) as caught:
            await client.read_resource("test://absent")
        assert caught.value.code == types.INVALID_PARAMS
        reference = types.PromptReference(name="test_prompt_with_arguments")
        assert (await client.complete(reference, {"name": "arg1", "value": "pa"})).completion.values == ["paris"]
    assert heard == [0, 50, 100]
    spoken = {seen.headers.get("mcp-protocol-version") for seen in behind.recorded.asked("tools/call")}
    assert spoken == {"2026-07-28" if server_era == "modern" else "2025-11-25"}


async def test_a_modern_servers_questions_become_requests_to_a_legacy_client(running: RunningHub) -> None:
    await running.everything(only="modern")

    async def elicit(_ctx: Any, params: Any) -> types.ElicitResult:
        said = {"step1": "Ann", "name": "Ann", "color": "blue", "username": "ann", "email": "e"}
        asked = params.requested_schema["properties"]
        return types.ElicitResult(action="accept", content={key: said[key] for key in asked})

    async def sample(_ctx: Any, _params: Any) -> types.CreateMessageResult:
        return types.CreateMessageResult(role="assistant", content=types.TextContent(text="Paris"), model="m")

    async with running.connect("legacy", elicitation_callback=elicit, sampling_callback=sample) as client:
        for tool, expected in {
            "test_input_required_result_elicitation": "Hello, Ann!",
            "test_input_required_result_sampling": "Paris",
            "test_input_required_result_multi_round": "Both answered.",
        }.items():
            answer = await client.call_tool(tool)
            assert expected in getattr(answer.content[0], "text", ""), tool


async def test_results_gain_and_lose_what_only_one_era_knows(running: RunningHub) -> None:
    await running.everything("old", only="legacy")
    await running.everything("new", only="modern")
    read = events(await running.modern("resources/read", {"uri": "test://static-text"}, path="/mcp/s/old"))[-1][
        "result"
    ]
    assert (read["resultType"], read["ttlMs"], read["cacheScope"]) == ("complete", 0, "private")
    headers = await running.session("/mcp/s/new")
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "test://static-text"}}
    read = events(await running.http.post("/mcp/s/new", json=body, headers=headers))[-1]["result"]
    assert not {"resultType", "ttlMs", "cacheScope"} & read.keys()


@pytest.mark.parametrize(("client_era", "server_era"), PAIRS)
async def test_cancellation_crosses(running: RunningHub, client_era: Era, server_era: Any) -> None:
    behind = await running.everything(only=server_era)
    async with asyncio.timeout(10):
        if client_era == "modern":
            call = asyncio.create_task(running.modern("tools/call", {"name": "wait"}))
            await behind.server.started.wait()
            call.cancel()
        else:
            headers = await running.session()
            body = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "wait"}}
            call = asyncio.create_task(running.http.post("/mcp", json=body, headers=headers))
            await behind.server.started.wait()
            notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
            await running.http.post("/mcp", json=notice, headers=headers)
            await call
        await behind.server.cancelled.wait()


async def test_a_legacy_session_that_the_server_forgot_is_opened_again(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    echo: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}
    await running.modern("tools/call", echo)
    session = behind.recorded.asked("tools/call")[-1].headers["mcp-session-id"]
    async with asyncio.timeout(5):
        told = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
        await running.http.delete(f"http://{behind.recorded.seen[-1].headers['host']}/mcp", headers=told)
        assert "result" in events(await running.modern("tools/call", echo))[-1]
    assert behind.server.calls == ["echo", "echo"]


async def test_two_callers_never_share_a_session_with_a_legacy_server(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    other = await running.key("other", ["call"])
    echo: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}
    for token in (None, other, None, other):
        await running.modern("tools/call", echo, token=token)
    sessions = [seen.headers["mcp-session-id"] for seen in behind.recorded.asked("tools/call")]
    assert sessions[0] == sessions[2] != sessions[1] == sessions[3]


@pytest.mark.parametrize(("client_era", "server_era"), PAIRS)
async def test_what_crosses_is_promised(running: RunningHub, client_era: Era, server_era: Any) -> None:
    await running.everything(only=server_era)
    if client_era == "modern":
        told = events(await running.modern("server/discover", path="/mcp/s/everything"))[-1]["result"]["capabilities"]
    else:
        async with running.connect("legacy", "/mcp/s/everything") as client:
            assert client.server_capabilities is not None
            told = client.server_capabilities.model_dump(exclude_none=True)
    assert {"tools", "prompts", "resources", "completions", "logging"} <= told.keys()
    assert told["resources"]["subscribe"] is True


async def test_a_modern_callers_log_level_is_set_at_the_session_and_kept_for_that_caller(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    log: dict[str, Any] = {"name": "test_tool_with_logging", "arguments": {}}

    async def heard(level: str | None) -> list[str]:
        told = await running.modern("tools/call", log, meta={f"{META}logLevel": level} if level else None)
        return [one["params"]["level"] for one in events(told) if one.get("method") == "notifications/message"]

    assert await heard(None) == []
    assert set(await heard("info")) == {"info"}
    assert await heard("error") == []
    assert set(await heard("debug")) == {"info"}
    assert [one.message["params"]["level"] for one in behind.recorded.asked("logging/setLevel")] == ["info", "debug"]
    refused = events(await running.modern("tools/call", log, meta={f"{META}logLevel": "loud"}))[-1]
    assert refused["error"]["code"] == types.INVALID_PARAMS


async def test_a_legacy_sessions_log_level_goes_with_each_of_its_calls(running: RunningHub) -> None:
    behind = await running.everything(only="modern")
    heard: list[str] = []

    async def hear(params: types.LoggingMessageNotificationParams) -> None:
        heard.append(params.level)

    async with running.connect("legacy", logging_callback=hear) as client:
        await client.call_tool("test_logging_tool")
        assert heard == []
        with pytest.warns(MCPDeprecationWarning):
            await client.set_logging_level("info")  # pyright: ignore[reportDeprecated] - of this era
        await client.call_tool("test_logging_tool")
    assert set(heard) == {"info"}
    assert [meta.get(f"{META}logLevel") for meta in behind.server.metas] == [None, "info"]
