"""A modern client calls a legacy server that asks something in the middle: the call rests until the answer comes."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import orjson
import pytest

from hub.gateway import parks
from tests.support.hub import META, RunningHub, events
from tests.support.legacy import CALL, STREAM, event, legacy
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio

ABLE: dict[str, Any] = {
    f"{META}clientCapabilities": {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
}
ASK: dict[str, Any] = {"name": "test_input_required_result_elicitation", "arguments": {}}
ANN = {"action": "accept", "content": {"name": "Ann"}}


class Asking:
    """A legacy server whose one tool asks what it is told to, then answers with all that it was answered."""

    def __init__(self, *rounds: list[dict[str, Any]]) -> None:
        self.rounds = rounds
        self.answers: list[dict[str, Any]] = []
        self.calls = 0
        self.cancelled = asyncio.Event()
        self._came = asyncio.Event()

    async def act(self, one: Exchange) -> None:
        self.calls += 1
        await one.send(STREAM)
        wanted = 0
        for questions in self.rounds:
            wanted += len(questions)
            for question in questions:
                await one.send(event(orjson.dumps({"jsonrpc": "2.0"} | question)))
            while len(self.answers) < wanted:
                self._came.clear()
                await self._came.wait()
        said = {"content": [{"type": "text", "text": orjson.dumps(self.answers).decode()}]}
        await one.send(event(orjson.dumps({"jsonrpc": "2.0", "id": one.message["id"], "result": said})))

    async def told(self, one: Exchange) -> None:
        if "method" not in one.message:
            self.answers.append(one.message)
            self._came.set()

    def server(self) -> RawServer:
        behave = legacy(self.act, told=self.told)

        async def noticing(one: Exchange) -> None:
            if one.message.get("method") == "notifications/cancelled":
                self.cancelled.set()
            await behave(one)

        return RawServer(noticing)


def question(number: int, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    params = {"mode": "form", "message": f"Question {number}", "requestedSchema": schema}
    return {"id": number, "method": "elicitation/create", "params": params | more}


async def ask(running: RunningHub, params: dict[str, Any], meta: dict[str, Any] | None = None, **more: Any) -> Any:
    """The last message of a modern answer."""
    return events(await running.modern("tools/call", params, meta=ABLE if meta is None else meta, **more))[-1]


def answering(told: dict[str, Any], *keys: str, **more: Any) -> dict[str, Any]:
    """What a retry adds to a request."""
    asked = told["result"]["inputRequests"]
    return {
        "requestState": told["result"]["requestState"],
        "inputResponses": dict.fromkeys(keys or asked, ANN) | more,
    }


@pytest.mark.parametrize("path", ["/mcp", "/mcp/s/everything"])
async def test_the_official_client_is_asked_everything_by_a_legacy_server(running: RunningHub, path: str) -> None:
    behind = await running.everything(only="legacy")

    async def elicit(_ctx: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Ann", "username": "ann", "email": "e", "ok": True})

    async def sample(_ctx: Any, _params: Any) -> types.CreateMessageResult:
        return types.CreateMessageResult(role="assistant", content=types.TextContent(text="Paris"), model="m")

    async def roots(_ctx: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///work")])  # pyright: ignore[reportArgumentType]

    told: dict[str, Any] = {
        "elicitation_callback": elicit,
        "sampling_callback": sample,
        "list_roots_callback": roots,
    }
    async with running.connect("modern", path, **told) as client:
        for tool, expected in {
            "test_input_required_result_elicitation": "Hello, Ann!",
            "test_input_required_result_sampling": "Paris",
            "test_input_required_result_list_roots": "file:///work",
            "test_streaming_elicitation": "action=accept",
        }.items():
            answer = await client.call_tool(tool)
            assert expected in getattr(answer.content[0], "text", ""), tool
        prompt = await client.get_prompt("test_input_required_result_prompt")
        assert "Ann" in str(prompt.messages[0].content)
    assert len(behind.server.calls) == 4
    assert len(running.hub.bridge.parks) == 0


async def test_several_questions_come_at_once_and_round_after_round(running: RunningHub) -> None:
    behind = Asking([question(1), question(2)], [question(3)])
    async with behind.server() as server:
        await running.register("asking", server.url)
        told = await ask(running, CALL)
        assert [one["params"]["message"] for one in told["result"]["inputRequests"].values()] == [
            "Question 1",
            "Question 2",
        ]
        told = await ask(running, CALL | answering(told))
        assert [one["params"]["message"] for one in told["result"]["inputRequests"].values()] == ["Question 3"]
        told = await ask(running, CALL | answering(told), identifier="another")
    assert told["id"] == "another"
    assert [one["id"] for one in behind.answers] == [1, 2, 3]
    assert behind.calls == 1


async def test_what_was_not_answered_is_asked_again_and_what_was_not_asked_is_ignored(running: RunningHub) -> None:
    behind = Asking([question(1), question(2)])
    async with behind.server() as server:
        await running.register("asking", server.url)
        told = await ask(running, CALL)
        first, second = told["result"]["inputRequests"]
        told = await ask(running, CALL | answering(told, first, extra=ANN, **{second: "not an object"}))
        assert list(told["result"]["inputRequests"]) == [second]
        told = await ask(running, CALL | answering(told, second))
        assert told["result"]["resultType"] == "complete"
    assert [one["id"] for one in behind.answers] == [1, 2]


async def test_a_state_serves_only_its_principal_its_request_and_its_round(running: RunningHub) -> None:
    behind = Asking([question(1)])
    other = await running.key("other", ["call"])
    async with behind.server() as server:
        await running.register("asking", server.url)
        told = await ask(running, CALL)
        retry = answering(told)
        state: str = retry["requestState"]
        wrong = [
            await ask(running, CALL | retry, token=other),
            await ask(running, CALL | retry | {"arguments": {"more": 1}}),
            await ask(running, CALL | retry | {"requestState": state[:-3] + "abc"}),
            await ask(running, CALL | retry | {"requestState": "park.0.x"}),
            await ask(running, CALL | retry | {"requestState": "something"}),
            await ask(running, CALL | retry | {"inputResponses": []}),
        ]
        assert {one["error"]["code"] for one in wrong} == {types.INVALID_PARAMS}
        assert behind.answers == []
        assert (await ask(running, CALL | retry))["result"]["resultType"] == "complete"
        assert (await ask(running, CALL | retry))["error"]["code"] == types.INVALID_PARAMS
    assert behind.calls == 1


async def test_a_call_that_nobody_comes_back_to_is_cancelled_and_never_begun_again(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.hub.bridge.parks, "_seconds", 0.3)
    behind = Asking([question(1)])
    async with behind.server() as server, asyncio.timeout(10):
        await running.register("asking", server.url)
        told = await ask(running, CALL)
        await behind.cancelled.wait()
        await server.left.wait()
        refused = await ask(running, CALL | answering(told))
    assert refused["error"]["code"] == types.INVALID_PARAMS
    assert behind.calls == 1


async def test_a_parked_call_outlives_the_request_that_began_it(running: RunningHub) -> None:
    behind = Asking([question(1)])
    async with behind.server() as server:
        await running.register("asking", server.url)
        told = await ask(running, CALL, headers={"connection": "close"})
        looker = await running.key("looker", ["admin:read"])
        metrics = await running.http.get("/metrics", headers=running.bearer(looker))
        assert "entrepot_calls_resting 1.0" in metrics.text
        assert not behind.cancelled.is_set()
        assert (await ask(running, CALL | answering(told)))["result"]["resultType"] == "complete"


async def test_a_client_that_leaves_while_its_answer_is_worked_on_cancels_the_call(running: RunningHub) -> None:
    behind = Asking([question(1)], [])
    gate = asyncio.Event()

    async def told(one: Exchange) -> None:
        gate.set()

    behind.told = told
    async with behind.server() as server, asyncio.timeout(10):
        await running.register("asking", server.url)
        retry = answering(await ask(running, CALL))
        assert not behind.cancelled.is_set()
        going = asyncio.create_task(ask(running, CALL | retry))
        await gate.wait()
        going.cancel()
        await behind.cancelled.wait()
        await server.left.wait()
    assert len(running.hub.bridge.parks) == 0


async def test_a_client_is_never_asked_what_it_cannot_answer(running: RunningHub) -> None:
    by_url = question(2, mode="url", url="https://there", elicitationId="e")
    behind = Asking([question(1), by_url, {"id": 3, "method": "roots/list"}, {"id": 4, "method": "ping"}])
    async with behind.server() as server:
        await running.register("asking", server.url)
        told = await ask(running, CALL, {f"{META}clientCapabilities": {"elicitation": {}}})
        assert len(told["result"]["inputRequests"]) == 1
        told = await ask(running, CALL | answering(told), {f"{META}clientCapabilities": {"elicitation": {}}})
        assert told["result"]["resultType"] == "complete"
        told = await ask(running, CALL, {f"{META}clientCapabilities": {}})
    codes = {one["id"]: one.get("error", {}).get("code") for one in behind.answers[:4]}
    assert codes == {1: None, 2: types.INVALID_PARAMS, 3: types.METHOD_NOT_FOUND, 4: None}


async def test_a_server_learns_at_the_handshake_what_each_client_can_be_asked(running: RunningHub) -> None:
    behind = await running.everything(only="legacy")
    echo: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}
    by_url: dict[str, Any] = {"elicitation": {"url": {}}, "roots": {"listChanged": True}}
    clients: list[dict[str, Any]] = [{}, {"elicitation": {}}, by_url, {}, {"elicitation": {"form": {}}}]
    for able in clients:
        await running.modern("tools/call", echo, meta={f"{META}clientCapabilities": able})
    offered = [one.message["params"]["capabilities"] for one in behind.recorded.asked("initialize")[-3:]]
    assert offered == [{}, {"elicitation": {"form": {}}}, {"elicitation": {"url": {}}, "roots": {}}]
    sessions = [seen.headers["mcp-session-id"] for seen in behind.recorded.asked("tools/call")]
    assert sessions[0] == sessions[3] and sessions[1] == sessions[4] and len(set(sessions)) == 3


async def test_url_questions_lose_their_id_and_an_address_to_visit_first_becomes_one(running: RunningHub) -> None:
    asked = {"mode": "url", "message": "Go there", "url": "https://there", "elicitationId": "e"}
    behind = Asking([{"id": 1, "method": "elicitation/create", "params": asked}])
    visited = False

    async def act(one: Exchange) -> None:
        nonlocal visited
        if visited:
            await one.answer({"content": []})
            return
        visited = True
        error = {"code": -32042, "message": "Authorize first", "data": {"elicitations": [asked]}}
        await one.whole(orjson.dumps({"jsonrpc": "2.0", "id": one.message["id"], "error": error}))

    async with behind.server() as server, RawServer(legacy(act)) as sending:
        await running.register("asking", server.url)
        await running.register("sending", sending.url)
        told = await ask(running, CALL, path="/mcp/s/asking")
        (one,) = told["result"]["inputRequests"].values()
        assert one == {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": "Go there", "url": "https://there"},
        }
        lacking = await ask(running, CALL, {f"{META}clientCapabilities": {"elicitation": {}}}, path="/mcp/s/sending")
        assert lacking["error"]["code"] == -32021
        assert lacking["error"]["data"]["requiredCapabilities"] == {"elicitation": {"url": {}}}
        visited = False
        told = await ask(running, CALL, path="/mcp/s/sending")
        assert list(told["result"]["inputRequests"].values()) == [one]
        done = {"inputResponses": {key: {"action": "accept"} for key in told["result"]["inputRequests"]}}
        assert (await ask(running, CALL | done, path="/mcp/s/sending"))["result"]["resultType"] == "complete"


async def test_a_question_that_the_server_takes_back_is_not_waited_for(running: RunningHub) -> None:
    asked = asyncio.Event()
    done = asyncio.Event()

    async def act(one: Exchange) -> None:
        await one.send(STREAM + event(orjson.dumps({"jsonrpc": "2.0"} | question(1))))
        await asked.wait()
        notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        result = {
            "jsonrpc": "2.0",
            "id": one.message["id"],
            "result": {"content": [{"type": "text", "text": "gave up"}]},
        }
        await one.send(event(orjson.dumps(notice)) + event(orjson.dumps(result)))
        done.set()

    async with RawServer(legacy(act)) as server, asyncio.timeout(10):
        await running.register("asking", server.url)
        told = await ask(running, CALL)
        asked.set()
        await done.wait()
        assert (await ask(running, CALL | answering(told)))["result"]["content"][0]["text"] == "gave up"


async def test_calls_at_rest_are_bounded_for_each_principal(
    running: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parks, "MOST_OF_ONE", 2)
    behind = Asking([question(1)])
    other = await running.key("other", ["call"])
    async with behind.server() as server:
        await running.register("asking", server.url)
        resting = [await ask(running, CALL), await ask(running, CALL), await ask(running, CALL, token=other)]
        assert {one["result"]["resultType"] for one in resting} == {"input_required"}
        await ask(running, CALL)
    assert [one["error"]["code"] for one in behind.answers] == [types.INTERNAL_ERROR]
