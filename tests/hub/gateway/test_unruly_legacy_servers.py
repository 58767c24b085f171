"""Legacy servers that ask on their own stream, never answer, garble or mix up: what their clients see of it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from mcp.server.mcpserver import Context, MCPServer

from hub.gateway import bridge
from hub.gateway.seals import Seals
from hub.upstream.address import Address
from hub.upstream.modern_http import META
from tests.support.everything import Everything
from tests.support.hub import MODERN, RunningHub, events, modern_headers, modern_message
from tests.support.legacy import CALL, STREAM, event, legacy
from tests.support.upstreams import Exchange, RawServer, Recorded, serving

pytestmark = pytest.mark.anyio


def asking(method: str, params: Any, identifier: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}


async def test_a_question_on_the_sessions_stream_gets_its_answer(running: RunningHub) -> None:
    answered: asyncio.Queue[Any] = asyncio.Queue()

    async def act(one: Exchange) -> None:
        await one.answer({"content": []})

    async def listening(one: Exchange) -> None:
        await one.send(STREAM + event(b'{"jsonrpc":"2.0","id":7,"method":"roots/list"}'))
        await asyncio.Event().wait()

    async def told(one: Exchange) -> None:
        answered.put_nowait(one.message)

    async with RawServer(legacy(act, listening, told)) as server, asyncio.timeout(10):
        await running.register("raw", server.url)
        headers = await running.session(capabilities={"roots": {}})
        await running.http.post("/mcp", json=asking("tools/call", CALL), headers=headers)
        taken = {name: value for name, value in headers.items() if name != "content-type"}
        async with running.http.stream("GET", "/mcp", headers=taken) as stream:
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("data: "):
                pass
            question: dict[str, Any] = orjson.loads(line[6:])
            assert question["method"] == "roots/list"
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}
            assert (await running.http.post("/mcp", json=answer, headers=headers)).status_code == 202
            assert await answered.get() == {"jsonrpc": "2.0", "id": 7, "result": {"roots": []}}


async def test_a_cancelled_call_ends_although_its_server_never_answers(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "GRACE_SECONDS", 0.05)
    called = asyncio.Event()

    async def act(_one: Exchange) -> None:
        called.set()
        await asyncio.Event().wait()

    async with RawServer(legacy(act)) as server, asyncio.timeout(10):
        await running.register("raw", server.url)
        headers = await running.session()
        call = asyncio.create_task(running.http.post("/mcp", json=asking("tools/call", CALL, "w"), headers=headers))
        await called.wait()
        notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "w"}}
        for _ in range(2):
            assert (await running.http.post("/mcp", json=notice, headers=headers)).status_code == 202
        ended = events(await call)[-1]
        assert (ended["id"], ended["error"]["code"]) == ("w", -32800)
        await server.left.wait()
        assert any(one.message.get("method") == "notifications/cancelled" for one in server.seen)


async def test_what_a_server_garbles_is_its_own_error_and_ends_the_stream_well(running: RunningHub) -> None:
    said = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'

    async def act(one: Exchange) -> None:
        await one.send(STREAM + event(said))
        await one.send(event(b'{"jsonrpc":"2.0","method":"notifications/message","params":[1]}'))
        await one.send(event(b'{"jsonrpc":"2.0","id":%b,"result":[1]}' % orjson.dumps(one.message["id"])))
        one.close()

    async with RawServer(legacy(act)) as server, asyncio.timeout(10):
        await running.register("raw", server.url)
        headers = await running.session()
        told = events(await running.http.post("/mcp", json=asking("tools/call", CALL), headers=headers))
        assert [one.get("method") for one in told] == ["notifications/message", None]
        assert "'raw'" in told[-1]["error"]["message"]
        assert told[-1]["error"]["data"]["owner"] == "server"


@pytest.mark.parametrize("asked", [b"[1]", b'{"a":5}', b'{"a":{"params":{}}}'], ids=["list", "number", "no method"])
async def test_questions_that_cannot_be_put_are_the_servers_error(running: RunningHub, asked: bytes) -> None:
    async def behave(one: Exchange) -> None:
        method = one.message.get("method")
        if method == "server/discover":
            await one.answer({"supportedVersions": [MODERN], "capabilities": {"tools": {}}})
        elif method == "tools/list":
            await one.answer({"tools": [{"name": "act", "inputSchema": {"type": "object"}}]})
        elif method == "tools/call":
            await one.answer({"resultType": "input_required", "inputRequests": orjson.loads(asked)})
        else:
            await one.whole(b"{}", "400 Bad Request")

    async with RawServer(behave) as server, asyncio.timeout(10):
        await running.register("new", server.url)
        headers = await running.session()
        ended = events(await running.http.post("/mcp", json=asking("tools/call", CALL), headers=headers))[-1]
        assert (ended["id"], ended["error"]["data"]["owner"]) == (1, "server")
        assert "'new'" in ended["error"]["message"]


@pytest.mark.parametrize("level", [["info"], {"a": 1}, None, 5, "loud"])
async def test_a_level_that_is_none_is_the_clients_error(running: RunningHub, level: Any) -> None:
    headers = await running.session()
    answer = await running.http.post("/mcp", json=asking("logging/setLevel", {"level": level}), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, -32602)


@pytest.mark.parametrize("params", [[1], "x", None, {"requestId": {"a": 1}}])
async def test_a_cancellation_of_nothing_is_taken(running: RunningHub, params: Any) -> None:
    headers = await running.session()
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    assert (await running.http.post("/mcp", json=notice, headers=headers)).status_code == 202


async def test_progress_over_the_old_transport_reaches_its_own_call_only(running: RunningHub) -> None:
    server = MCPServer("old")
    both = asyncio.Barrier(2)

    async def count(start: int, ctx: Context[Any, Any]) -> int:
        """Reports its own numbers, while another call does the same."""
        await both.wait()
        for step in range(3):
            await ctx.report_progress(start + step)
            await both.wait()
        return start

    server.add_tool(count)
    async with serving(server.sse_app(), lifespan=False) as base, asyncio.timeout(15):
        await running.register("old", f"{base}/sse")

        async def called(start: int) -> list[float]:
            params = {"name": "count", "arguments": {"start": start}}
            told = events(await running.modern("tools/call", params, meta={"progressToken": f"t{start}"}))
            assert told[-1]["result"]["structuredContent"] == {"result": start}
            assert {one["params"]["progressToken"] for one in told[:-1]} == {f"t{start}"}
            return [one["params"]["progress"] for one in told[:-1]]

        assert await asyncio.gather(called(10), called(20)) == [[10, 11, 12], [20, 21, 22]]
        headers = await running.session()

        async def called_within(start: int) -> list[float]:
            params = {"name": "count", "arguments": {"start": start}, "_meta": {"progressToken": start}}
            message = asking("tools/call", params, start)
            told = events(await running.http.post("/mcp", json=message, headers=headers))
            return [one["params"]["progress"] for one in told[:-1]]

        assert await asyncio.gather(called_within(30), called_within(40)) == [[30, 31, 32], [40, 41, 42]]


KNOWS_TASKS: dict[str, Any] = {META + "clientCapabilities": {"extensions": {META + "tasks": {}}}}


async def behind_a_socket(running: RunningHub, folder: Path, only: Any) -> Recorded:
    """A server of the runner's: reached over a local socket."""
    recorded = Recorded(Everything("child").app(), only)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "child.sock"))
    listener.listen()
    await running.servers.enter_async_context(serving(recorded, listener))
    await running.everything("child", only)
    current = running.hub.snapshots.current
    address = Address("http://127.0.0.1:1/mcp", str(folder / "child.sock"))
    moved = replace(current.servers["child"], address=address, digest="moved")
    running.hub.snapshots.swap(replace(current, servers={**current.servers, "child": moved}))
    return recorded


def sealed_task(running: RunningHub) -> str:
    """A task of the child's, as this client knows it."""
    principal = running.hub.keys.authenticate(running.token)
    assert principal is not None
    return orjson.loads(Seals(running.hub.keyring).wrap("task", principal, "child", b'"task-1"'))


@pytest.mark.parametrize("client", ["modern", "legacy"])
@pytest.mark.parametrize("only", ["modern", "legacy"])
async def test_a_child_learns_whose_every_request_is(
    running: RunningHub, tmp_path: Path, client: str, only: Any
) -> None:
    echo: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}
    recorded = await behind_a_socket(running, tmp_path, only)
    async with asyncio.timeout(10):
        if client == "modern":
            answer = await running.modern("tools/call", echo)
        else:
            headers = await running.session()
            answer = await running.http.post("/mcp", json=asking("tools/call", echo), headers=headers)
        assert "result" in events(answer)[-1]
        if (client, only) == ("modern", "modern"):
            wanted = {"notifications": {"resourceSubscriptions": ["test://watched-resource"]}}
            listen = modern_message("subscriptions/listen", wanted)
            told = modern_headers("subscriptions/listen") | running.bearer()
            told = {name: value for name, value in told.items() if value}
            async with running.http.stream("POST", "/mcp", content=orjson.dumps(listen), headers=told) as stream:
                assert stream.status_code == 200
                while not any(one.message.get("id") == "follow" for one in recorded.seen):
                    await asyncio.sleep(0.01)
            sealed = sealed_task(running)
            asked = await running.modern(
                "tasks/get", {"taskId": sealed}, headers={"mcp-name": sealed}, meta=KNOWS_TASKS
            )
            assert "error" in events(asked)[-1]
            assert recorded.asked("tasks/get")
        # What the hub watches for its own ends is nobody's.
        session = recorded.asked("tools/call")[0].headers.get("mcp-session-id")
        same = [one for one in recorded.seen if one.headers.get("mcp-session-id") == session]
        ours = [one for one in same if one.message.get("id") != "watch"]
        subjects = {one.headers.get("x-entrepot-principal", "") for one in ours}
        assert len(subjects) == 1
        assert subjects != {""}
