"""Endpoints that show the hub's own tools instead of every definition, in both eras, and calls through `call_tool`."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import orjson
import pytest
from mcp import MCPError
from mcp.server.mcpserver import MCPServer

from hub.catalog.manifest import CollectionSpec
from hub.gateway.modes import EXTENSION
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.hub import META, Era, RunningHub
from tests.support.upstreams import serving

pytestmark = pytest.mark.anyio

ERAS: tuple[Era, Era] = ("modern", "legacy")
OWN = {"find_tools", "describe_tool", "call_tool"}


def through(name: str, **arguments: Any) -> dict[str, Any]:
    """Parameters of a call that goes through `call_tool`."""
    return {"name": "call_tool", "arguments": {"name": name, "arguments": arguments}}


def records(running: RunningHub, event: str = "tool:call") -> list[dict[str, Any]]:
    """The audit's records of an event so far, in order."""
    lines = [
        line for path in sorted(running.hub.audit.folder.glob("*.jsonl")) for line in path.read_bytes().split(b"\n")
    ]
    found = [orjson.loads(line) for line in lines if line]
    return [record for record in found if record["event"] == event]


async def curate(running: RunningHub, **more: Any) -> None:
    spec = CollectionSpec.model_validate({"name": "few", "members": ["*"]} | more)
    await running.hub.catalog.put_collection(LOCAL_ADMINISTRATOR, spec)


async def names(running: RunningHub, era: Era, path: str, token: str | None = None) -> set[str]:
    async with running.connect(era, path, token) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/c/few", "/mcp/s/everything"])
async def test_a_url_asks_for_search_mode_at_every_endpoint(running: RunningHub, era: Era, path: str) -> None:
    await running.everything()
    await curate(running)
    assert await names(running, era, f"{path}?mode=search") == OWN
    assert "echo" in await names(running, era, path)


@pytest.mark.parametrize("era", ERAS)
async def test_a_collection_declares_its_mode_and_its_pinned_tools_and_a_url_has_the_last_word(
    running: RunningHub, era: Era
) -> None:
    await running.everything()
    await curate(running, mode="search", pinned=["everything/echo"])
    assert await names(running, era, "/mcp/c/few") == OWN | {"echo"}
    assert "wait" in await names(running, era, "/mcp/c/few?mode=all")
    async with running.connect(era, "/mcp/c/few") as client:
        assert (await client.call_tool("echo", {"text": "hi"})).structured_content == {
            "text": "hi",
            "server": "everything",
        }


async def test_a_client_asks_by_its_capabilities(running: RunningHub) -> None:
    await running.everything()
    for place in ("extensions", "experimental"):
        asked = {place: {EXTENSION: {"mode": "search"}}}
        answer = await running.modern("tools/list", meta={f"{META}clientCapabilities": asked})
        assert {tool["name"] for tool in answer.json()["result"]["tools"]} == OWN
        headers = await running.session(capabilities=asked)
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = await running.http.post("/mcp", json=body, headers=headers)
        assert {tool["name"] for tool in answer.json()["result"]["tools"]} == OWN
        answer = await running.http.post("/mcp?mode=all", json=body, headers=headers)
        assert "echo" in {tool["name"] for tool in answer.json()["result"]["tools"]}


async def test_a_mode_that_does_not_exist_is_refused(running: RunningHub) -> None:
    for query in ("mode=serach", "mode=all&mode=search", "mode=", "&".join(f"a{n}=" for n in range(100))):
        answer = await running.modern("tools/list", path=f"/mcp?{query}")
        assert answer.status_code == 400, query
    assert (await running.modern("tools/list", path="/mcp?other=1")).status_code == 200


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_through_call_tool_is_the_call_of_that_tool(running: RunningHub, era: Era) -> None:
    behind = await running.everything()
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with running.connect(era, "/mcp?mode=search") as client:
        called = await client.call_tool(**through("echo", text="hi"))
        assert called.structured_content == {"text": "hi", "server": "everything"}
        assert (await client.call_tool("echo", {"text": "hi"})).structured_content == called.structured_content
        assert (await client.call_tool(**through("test_error_handling"))).is_error
        await client.call_tool(**through("test_tool_with_progress"), progress_callback=hear)
        mirrored = await client.call_tool(**through("test_mirrored_header", region="\u4e1c"))
        assert not mirrored.is_error
        as_text: dict[str, Any] = {"name": "echo", "arguments": '{"text": "hi"}'}
        assert (await client.call_tool("call_tool", as_text)).structured_content == called.structured_content
        wrongs: list[dict[str, Any]] = [
            {},
            {"name": 1},
            {"name": "echo", "arguments": [1]},
            {"name": "echo", "arguments": "x"},
        ]
        for wrong in wrongs:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("call_tool", wrong)
            assert caught.value.code == types.INVALID_PARAMS
        for absent in ("absent", "call_tool"):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(**through(absent))
            assert caught.value.message == f"Unknown tool: {absent}"
    assert heard == [0, 50, 100]
    told = [(one["server"], one["target"], one["outcome"], one["detail"]) for one in records(running)]
    assert told[0] == ("everything", "echo", "ok", "via call_tool")
    assert told[1] == ("everything", "echo", "ok", "")
    assert [one[:3] for one in told[6:10]] == [("@hub", "call_tool", "invalid-params")] * 4
    assert told[10][1:] == ("absent", "invalid-params", "via call_tool; Unknown tool: absent")
    assert len(told) == 12
    assert len(behind.recorded.asked("tools/call")) == 6


async def test_a_servers_questions_pass_through_call_tool(running: RunningHub) -> None:
    await running.everything(only="modern")

    async def elicit(_ctx: Any, params: Any) -> types.ElicitResult:
        said = {"step1": "Ann", "name": "Ann", "color": "blue"}
        return types.ElicitResult(
            action="accept", content={key: said[key] for key in params.requested_schema["properties"]}
        )

    for era in ERAS:
        async with running.connect(era, "/mcp?mode=search", elicitation_callback=elicit) as client:
            answer = await client.call_tool(**through("test_input_required_result_multi_round"))
            assert "Both answered." in getattr(answer.content[0], "text", ""), era


async def test_cancelling_a_call_through_call_tool_cancels_at_the_server(running: RunningHub) -> None:
    behind = await running.everything()
    call = asyncio.create_task(running.modern("tools/call", through("wait"), path="/mcp?mode=search"))
    async with asyncio.timeout(10):
        await behind.server.started.wait()
        call.cancel()
        await behind.server.cancelled.wait()


async def test_call_tool_reaches_nothing_that_its_caller_may_not_call(running: RunningHub) -> None:
    await running.everything("one")
    await running.everything("two")
    token = await running.key("narrow", ["call:one"])
    for era in ERAS:
        async with running.connect(era, "/mcp?mode=search", token) as client:
            assert not (await client.call_tool(**through("one__echo", text="hi"))).is_error
            with pytest.raises(MCPError) as caught:
                await client.call_tool(**through("two__echo", text="hi"))
            assert caught.value.message == "Unknown tool: two__echo"
    assert records(running)[-1]["outcome"] == "denied"
    nothing = await running.key("models only", ["models"])
    answer = await running.modern("tools/list", path="/mcp?mode=search", token=nothing)
    assert answer.json()["result"]["tools"] == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_servers_tool_called_as_one_of_the_hubs_is_still_to_be_had(running: RunningHub, era: Era) -> None:
    rival = MCPServer("rival")

    @rival.tool(name="call_tool")
    def theirs(number: int) -> str:
        """Another tool of that name."""
        return f"theirs {number}"

    assert theirs
    base = await running.servers.enter_async_context(serving(rival.streamable_http_app()))
    await running.register("rival", f"{base}/mcp")
    await running.everything()
    await curate(running, mode="search", pinned=["rival"])
    assert await names(running, era, "/mcp/c/few") == OWN | {"rival__call_tool"}
    async with running.connect(era, "/mcp/c/few") as client:
        asked: list[dict[str, Any]] = [
            through("rival__call_tool", number=1),
            through("call_tool", number=1),
            {"name": "rival__call_tool", "arguments": {"number": 1}},
        ]
        for one in asked:
            assert getattr((await client.call_tool(**one)).content[0], "text", "") == "theirs 1"
        assert (await client.call_tool(**through("echo", text="hi"))).structured_content
    async with running.connect(era, "/mcp/c/few?mode=all") as client:
        assert not (await client.call_tool("call_tool", {"number": 1})).is_error
