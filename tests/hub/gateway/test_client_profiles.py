"""Lists as clients can take them: fewer tools, shorter names, other words for schemas. What is left out is callable."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest
from mcp.server.mcpserver import MCPServer

from hub.catalog.manifest import CollectionSpec
from hub.catalog.profiles import ANY, PROFILES, TABLE, Profile, of_client
from hub.catalog.snapshot import Target
from hub.gateway.dialects import adapted, fitted, name_for
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.hub import META, Era, RunningHub, events
from tests.support.upstreams import serving

ERAS: tuple[Era, Era] = ("modern", "legacy")

CLIENTS = {
    "claude-code": "claude-code",
    "claude-ai": "claude-desktop",
    "Visual Studio Code": "vscode",
    "Visual Studio Code - Insiders": "vscode",
    "cursor-vscode": "cursor",
    "Cursor": "cursor",
    "windsurf-client": "windsurf",
    "codex-mcp-client": "codex",
    "gemini-cli-mcp-client": "gemini",
    "": "any",
    "my own client": "any",
}


@pytest.mark.parametrize(("said", "profile"), CLIENTS.items())
def test_a_client_is_known_by_the_name_that_it_gives_itself(said: str, profile: str) -> None:
    assert of_client(said).name == profile


def test_every_row_says_where_it_is_known_from_and_has_a_name_of_its_own() -> None:
    assert len(PROFILES) == len(TABLE)
    assert all(row.source and row.title for row in TABLE)
    assert all(row.longest_name == 0 or 20 <= row.longest_name <= 64 for row in TABLE)


def target(**definition: Any) -> Target:
    name = definition.setdefault("name", "t")
    return Target("server", "tool", name, name, orjson.dumps(definition), "")


def schema(fitting: bytes) -> dict[str, Any]:
    return orjson.loads(fitting)["inputSchema"]


def test_what_needs_no_change_is_passed_on_to_the_letter() -> None:
    plain = target(inputSchema={"type": "object", "properties": {"x": {"anyOf": [{"type": "string"}]}}})
    for profile in (ANY, PROFILES["claude-code"], PROFILES["vscode"]):
        assert fitted(plain, profile) is plain.fragment


def test_a_long_name_is_shortened_alike_at_every_time_and_differently_for_another_tool() -> None:
    one, other = target(name="x" * 60), target(name="x" * 59 + "y")
    profile = PROFILES["vscode"]
    short = name_for(one, profile)
    assert len(short) == profile.longest_name and short == name_for(one, profile) != name_for(other, profile)
    assert orjson.loads(fitted(one, profile))["name"] == short


def test_a_union_at_the_root_becomes_one_object() -> None:
    branch: dict[str, Any] = {"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "b"]}
    union: dict[str, Any] = {
        "anyOf": [branch, {"properties": {"c": {}}, "required": ["a"]}],
        "type": "object",
        "title": "T",
    }
    changed = schema(fitted(target(inputSchema=union), PROFILES["claude-code"]))
    assert changed == {
        "type": "object",
        "title": "T",
        "properties": {"a": {"type": "string"}, "b": {}, "c": {}},
        "required": ["a"],
    }
    both: dict[str, Any] = {
        "allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]
    }
    assert schema(fitted(target(inputSchema=both), PROFILES["codex"]))["required"] == ["a", "b"]


def test_references_are_written_out_and_those_without_end_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "$ref": {"type": "string"}}}
    told = adapted(
        {"type": "object", "properties": {"n": {"$ref": "#/$defs/Node", "title": "N"}}, "$defs": {"Node": node}},
        PROFILES["gemini"],
    )
    text = orjson.dumps(told)
    assert b'"$defs"' not in text and b"#/$defs" not in text
    assert told["properties"]["n"]["properties"]["next"]["type"] == "object"
    levels: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 20} for n in range(30)}
    endless = adapted(
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": levels}, PROFILES["gemini"]
    )
    assert len(orjson.dumps(endless)) < 2_000_000


def test_gemini_is_given_only_keywords_that_it_takes() -> None:
    told = adapted(
        {
            "$schema": "x",
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "additionalProperties": {"type": "array"},
                "kind": {"const": "a"},
                "any": {"anyOf": [{"type": "object", "additionalProperties": True}]},
            },
        },
        PROFILES["gemini"],
    )
    assert told == {
        "type": "object",
        "properties": {
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
            "kind": {"enum": ["a"]},
            "any": {"anyOf": [{"type": "object"}]},
        },
    }


def test_a_client_that_refuses_results_for_their_schema_is_told_none() -> None:
    shown = target(inputSchema={"type": "object"}, outputSchema={"type": "object"})
    assert b"outputSchema" not in fitted(shown, PROFILES["cursor"])
    assert b"outputSchema" in fitted(shown, PROFILES["vscode"])


def crowd(running: RunningHub, tools: int) -> MCPServer:
    server = MCPServer("crowd")
    for number in range(tools):

        @server.tool(name=f"tool_{number}")
        def answer() -> str:
            """Answers."""
            return "answered"

    @server.tool(name="a_name_that_is_too_long_for_a_client_which_puts_its_own_before")
    def long() -> str:
        """Answers."""
        return "long"

    return server


async def listed(running: RunningHub, era: Era, client: str, path: str = "/mcp", token: str | None = None) -> Any:
    """What a client of that name is listed, and what it is told at the start."""
    info = {"name": client, "version": "1"}
    if era == "modern":
        meta = {f"{META}clientInfo": info}
        tools = (await running.modern("tools/list", path=path, meta=meta, token=token)).json()["result"]["tools"]
        told = (await running.modern("server/discover", path=path, meta=meta, token=token)).json()["result"]
    else:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        headers = running.bearer(token) | {"accept": "application/json, text/event-stream"}
        answer = await post(running, path, headers, "initialize", hello)
        headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        told = answer.json()["result"]
        tools = events(await post(running, path, headers, "tools/list", {}))[-1]["result"]["tools"]
    return [tool["name"] for tool in tools], told.get("instructions", "")


async def post(
    running: RunningHub, path: str, headers: dict[str, str], method: str, params: dict[str, Any]
) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return await running.http.post(path, json=body, headers=headers)


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_with_a_cap_is_told_and_loses_nothing(running: RunningHub, era: Era) -> None:
    server = crowd(running, 130)
    base = await running.servers.enter_async_context(serving(server.streamable_http_app()))
    await running.register("crowd", f"{base}/mcp")
    assert len((await listed(running, era, "my own"))[0]) == 131
    names, told = await listed(running, era, "Visual Studio Code")
    assert "call_tool" in names and len(names) < 10
    assert "There are 131 tools and VS Code with GitHub Copilot takes 128" in told
    names, told = await listed(running, era, "Visual Studio Code", "/mcp?mode=all")
    assert len(names) == 128 and "128 of them are listed" in told
    few = await running.key("few", ["call:crowd/tool_3"])
    assert (await listed(running, era, "Visual Studio Code", token=few))[0] == ["tool_3"]
    names, _ = await listed(running, era, "Visual Studio Code", "/mcp?client=any")
    assert len(names) == 131
    names, _ = await listed(running, era, "my own", "/mcp?client=cursor")
    assert "call_tool" in names
    assert running.hub.metrics.fitted.labels("vscode", "cut")._value.get() > 0  # pyright: ignore[reportPrivateUsage]
    called = await running.modern("tools/call", {"name": "tool_129", "arguments": {}}, path="/mcp?client=cursor")
    assert called.json()["result"]["content"][0]["text"] == "answered"


@pytest.mark.anyio
async def test_a_short_name_is_called_as_it_is_listed_and_a_collection_names_its_client(running: RunningHub) -> None:
    server = crowd(running, 2)
    base = await running.servers.enter_async_context(serving(server.streamable_http_app()))
    await running.register("crowd", f"{base}/mcp")
    spec = CollectionSpec(name="few", members=["*"], client="cursor", pinned=["crowd/tool_1"])
    await running.hub.catalog.put_collection(LOCAL_ADMINISTRATOR, spec)
    for path, client in (("/mcp/s/crowd", "cursor-vscode"), ("/mcp/s/crowd?client=cursor", "x"), ("/mcp/c/few", "x")):
        names, _ = await listed(running, "modern", client, path)
        long = next(name for name in names if name.startswith("a_name"))
        assert len(long) <= 49, path
        meta = {f"{META}clientInfo": {"name": client, "version": "1"}}
        called = await running.modern("tools/call", {"name": long, "arguments": {}}, path=path, meta=meta)
        assert called.json()["result"]["content"][0]["text"] == "long", path


@pytest.mark.anyio
async def test_a_profile_that_does_not_exist_is_refused(running: RunningHub) -> None:
    assert (await running.modern("tools/list", path="/mcp?client=crusor")).status_code == 400
    with pytest.raises(ValueError, match="there is no client profile 'crusor'"):
        CollectionSpec(name="few", members=["*"], client="crusor")


def test_a_profile_is_data() -> None:
    assert Profile("x", "X") == Profile("x", "X")
