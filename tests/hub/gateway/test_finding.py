"""Finding tools through the hub: what is found follows the catalog and the caller's grants, in few tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import orjson
import pytest
from mcp.server.lowlevel import Server

from hub.catalog.manifest import CollectionSpec
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.hub import Era, RunningHub
from tests.support.upstreams import serving

pytestmark = pytest.mark.anyio

ERAS: tuple[Era, Era] = ("modern", "legacy")
SUBJECTS = ("invoice", "customer", "parcel", "ticket", "calendar", "image", "song", "contract", "sensor", "recipe")
ACTIONS = ("create", "delete", "list", "archive", "export", "approve", "translate", "print", "share", "rename")


async def offering(running: RunningHub, name: str, tools: list[types.Tool]) -> None:
    """A server with these tools, registered under `name`."""

    async def listed(_ctx: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def called(_ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text=f"{name}: {params.name}")])

    server = Server(name, on_list_tools=listed, on_call_tool=called)
    base = await running.servers.enter_async_context(serving(server.streamable_http_app()))
    await running.register(name, f"{base}/mcp")


def tool(name: str, description: str, **properties: str) -> types.Tool:
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    return types.Tool(name=name, description=description, input_schema=schema | {"required": list(properties)[:1]})


async def found(client: Any, query: str, **more: Any) -> list[str]:
    answer = await client.call_tool("find_tools", {"query": query, **more})
    return [one["name"] for one in answer.structured_content["tools"]]


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_is_found_described_and_called(running: RunningHub, era: Era) -> None:
    await offering(
        running,
        "files",
        [
            tool("read_text", "Reads the contents of a file.", path="string", head="integer"),
            tool("make_folder", "Creates a directory.", path="string"),
            tool("\u5220\u9664", "\u5220\u9664\u4e00\u4e2a\u6587\u4ef6\u3002", path="string"),
        ],
    )
    async with running.connect(era, "/mcp?mode=search") as client:
        answer = await client.call_tool("find_tools", {"query": "read contents of files", "limit": 1})
        text = getattr(answer.content[0], "text", "")
        assert text == "read_text(path: string, head?: integer): Reads the contents of a file."
        assert answer.structured_content["rankedBy"] == "words"  # no engine runs beside a bare hub
        name = (await found(client, "\u628a\u6587\u4ef6\u5220\u9664\u6389"))[0]
        described = await client.call_tool("describe_tool", {"name": name})
        assert described.structured_content["name"] == name
        called = await client.call_tool("call_tool", {"name": name, "arguments": {"path": "x"}})
        assert getattr(called.content[0], "text", "") == "files: \u5220\u9664"
        assert await found(client, "xylophone") == []


@pytest.mark.parametrize("era", ERAS)
async def test_nothing_is_found_or_described_that_the_caller_may_not_call(running: RunningHub, era: Era) -> None:
    await offering(running, "open", [tool("add_note", "Adds a note.", text="string")])
    await offering(
        running, "closed", [tool("drop_notes", "Drops all notes.", text="string"), tool("peek_note", "Note.")]
    )
    for scopes, may in (
        (["call"], {"add_note", "drop_notes", "peek_note"}),
        (["call:open"], {"add_note"}),
        (["call:open", "call:closed/peek_note"], {"add_note", "peek_note"}),
        (["call:other"], set[str]()),
    ):
        token = await running.key("-".join(scopes).replace(":", "-").replace("/", "-"), scopes)
        async with running.connect(era, "/mcp?mode=search", token) as client:
            assert set(await found(client, "note", limit=20)) == may
            for name in ("add_note", "drop_notes", "peek_note"):
                described = await client.call_tool("describe_tool", {"name": name})
                assert bool(described.is_error) is (name not in may)
                if name not in may:
                    unknown = getattr(described.content[0], "text", "")
                    absent = await client.call_tool("describe_tool", {"name": "no_such"})
                    assert unknown == getattr(absent.content[0], "text", "").replace("no_such", name)


async def test_the_index_follows_the_catalog(running: RunningHub) -> None:
    await offering(running, "one", [tool("water_plants", "Waters the plants.")])
    async with running.connect("modern", "/mcp?mode=search") as client, asyncio.timeout(20):
        assert await found(client, "feed the cat") == []
        await offering(running, "two", [tool("feed_cat", "Feeds the cat.")])
        assert await found(client, "feed the cat") == ["feed_cat"]
        await running.hub.catalog.remove(LOCAL_ADMINISTRATOR, "two")
        assert await found(client, "feed the cat") == []


async def test_a_collection_and_a_server_find_only_their_own(running: RunningHub) -> None:
    await offering(running, "one", [tool("paint_wall", "Paints a wall.")])
    await offering(running, "two", [tool("paint_door", "Paints a door.")])
    spec = CollectionSpec(name="few", members=["two"], mode="search")
    await running.hub.catalog.put_collection(LOCAL_ADMINISTRATOR, spec)
    for path, expected in {
        "/mcp?mode=search": {"paint_wall", "paint_door"},
        "/mcp/c/few": {"paint_door"},
        "/mcp/s/one?mode=search": {"paint_wall"},
    }.items():
        async with running.connect("modern", path) as client:
            assert set(await found(client, "paint")) == expected
    async with running.connect("modern", "/mcp?mode=search") as client:
        assert await found(client, "paint", server="one") == ["paint_wall"]


async def test_a_list_of_a_thousand_tools_costs_little(running: RunningHub) -> None:
    tools = [
        tool(f"{action}_{subject}_{number}", f"{action} one {subject} of the kind {number}.", of="string")
        for action in ACTIONS
        for subject in SUBJECTS
        for number in range(10)
    ]
    await offering(running, "many", tools)
    listed = await running.modern("tools/list", path="/mcp?mode=search")
    assert tokens(orjson.dumps(listed.json()["result"]["tools"])) < 700
    async with running.connect("modern", "/mcp?mode=search") as client:
        names = await found(client, "translate the contract")
    assert len(names) == 5
    assert all(name.startswith("translate_contract_") for name in names)


def tokens(text: bytes) -> float:
    """About as many as models count: three characters or more each, in English JSON."""
    return len(text) / 3


@pytest.mark.parametrize(
    "arguments", [{}, {"query": 1}, {"query": " "}, {"query": "x", "limit": "many"}, {"query": "x", "server": 1}]
)
async def test_a_question_of_the_wrong_form_is_refused(running: RunningHub, arguments: dict[str, Any]) -> None:
    answer = await running.modern("tools/call", {"name": "find_tools", "arguments": arguments}, path="/mcp?mode=search")
    assert answer.json()["error"]["code"] == types.INVALID_PARAMS
