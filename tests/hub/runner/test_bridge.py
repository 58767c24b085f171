"""Stdio servers behind the runner's socket, in both eras."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from tests.hub.runner.harness import META, Client, RunnerProcess, events, script, text_of

pytestmark = pytest.mark.anyio


async def test_sessions_share_one_initialized_process_and_keep_their_own_ids(client: Client) -> None:
    await client.want("old", script("old"))
    one, other = await client.session("old"), await client.session("old")
    answers = [await one.call("pid", 1), await one.call("pid", "1"), await other.call("pid", 1)]
    assert [answer.json()["id"] for answer in answers] == [1, "1", 1]
    assert len({text_of(answer) for answer in answers}) == 1
    assert answers[0].json()["result"]["vendorExtra"] == {"kept": True}


async def test_a_legacy_server_refuses_the_modern_era_and_then_serves_from_the_probed_process(client: Client) -> None:
    await client.want("old", script("old"))
    refusal = await client.modern("old", "server/discover", {})
    assert refusal.status_code == 400
    assert refusal.json()["error"]["code"] == -32600
    session = await client.session("old")
    assert text_of(await session.call("echo", text="hi")) == "hi"
    assert (await client.child("old"))["running"] == 1


async def test_a_dual_era_server_is_served_in_both_by_two_processes(client: Client) -> None:
    await client.want("both", script("both"))
    found = await client.modern("both", "server/discover", {}, "d")
    assert found.status_code == 200
    assert "2026-07-28" in found.json()["result"]["supportedVersions"]
    sum_ = await client.modern("both", "tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}, "s")
    assert sum_.json()["id"] == "s"
    assert sum_.json()["result"]["content"][0]["text"] == "3"
    session = await client.session("both")
    assert text_of(await session.call("add", a=2, b=2)) == "4"
    assert (await client.child("both"))["running"] == 2


async def test_progress_comes_on_the_stream_of_its_call_with_the_callers_token(client: Client) -> None:
    await client.want("both", script("both"))
    params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": {"progressToken": "mine"}}
    answer = await client.modern("both", "tools/call", params, 9)
    assert answer.headers["content-type"] == "text/event-stream"
    progress, last = [message async for message in events(answer)]
    assert progress["params"]["progressToken"] == "mine"
    assert last["id"] == 9
    await client.want("old", script("old"))
    session = await client.session("old")
    call = {"name": "progress", "_meta": {"progressToken": "t"}}
    old = await session.post({"id": 1, "method": "tools/call", "params": call})
    assert [m["params"]["progressToken"] async for m in events(old) if "params" in m] == ["t", "t", "t"]


async def test_an_unknown_modern_method_is_404(client: Client) -> None:
    await client.want("both", script("both"))
    answer = await client.modern("both", "nothing/here", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)


async def test_a_log_line_during_the_only_call_goes_to_its_stream(client: Client) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    log, last = [message async for message in events(await session.call("log", 4))]
    assert log["params"]["data"] == "careful"
    assert last["id"] == 4


async def test_a_question_reaches_the_caller_and_holds_others_until_it_is_answered(client: Client) -> None:
    await client.want("old", script("old"))
    asker, other = await client.session("old", {"elicitation": {}}), await client.session("old")
    done: list[str] = []
    async with anyio.create_task_group() as group, asker.stream(ask_call(7)) as response:
        stream = events(response)
        question = await anext(stream)
        assert question["method"] == "elicitation/create"

        async def call_meanwhile() -> None:
            done.append(text_of(await other.call("echo", text="later")))

        group.start_soon(call_meanwhile)
        await other.post({"id": question["id"], "result": {"action": "decline"}})  # not its question
        assert not done
        accepted = {"action": "accept", "content": {"name": "Ada"}}
        assert (await asker.post({"id": question["id"], "result": accepted})).status_code == 202
        last = await anext(stream)
        assert last["id"] == 7
        assert orjson.loads(last["result"]["content"][0]["text"]) == accepted
    assert done == ["later"]


async def test_a_caller_that_cannot_answer_is_not_asked(client: Client) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    assert "can answer elicitation/create" in text_of(await session.call("ask"))


async def test_cancelling_names_the_call_by_the_callers_id(client: Client) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    call = {"id": "w", "method": "tools/call", "params": {"name": "wait"}}
    async with session.stream() as listening, session.stream(call) as waiting:
        stream = events(waiting)
        assert (await anext(stream))["params"]["data"] == "waiting"
        await session.post({"method": "notifications/cancelled", "params": {"requestId": "w"}})
        assert (await anext(stream))["error"]["code"] == -32800
        assert (await anext(events(listening)))["method"] == "notifications/tools/list_changed"


async def test_updates_reach_the_sessions_that_subscribed(client: Client) -> None:
    await client.want("old", script("old"))
    one, other = await client.session("old"), await client.session("old")
    for session, uri in ((one, "a://1"), (other, "a://2")):
        assert (await session.post({"id": 1, "method": "resources/subscribe", "params": {"uri": uri}})).json()[
            "id"
        ] == 1
    async with one.stream() as listening:
        await one.call("updated", uri="a://2")
        await one.call("updated", uri="a://1")
        assert (await anext(events(listening)))["params"]["uri"] == "a://1"


async def test_an_ended_session_is_unknown(client: Client) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    await session.end()
    assert (await session.call("echo", text="x")).status_code == 404


async def test_principals_are_kept_apart_where_isolation_says_so(client: Client) -> None:
    await client.want("old", script("old"), isolation="per-principal")
    ann, bob = [await client.session("old", None, **{"x-entrepot-principal": who}) for who in ("ann", "bob")]
    assert text_of(await ann.call("pid")) != text_of(await bob.call("pid"))
    bob.headers["mcp-session-id"] = ann.headers["mcp-session-id"]
    assert (await bob.call("pid")).status_code == 404


async def test_a_server_that_dies_fails_its_open_calls_and_is_back_for_the_next(client: Client) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    before = text_of(await session.call("pid"))
    with anyio.fail_after(10):
        failed = (await session.call("die", "d")).json()
    assert failed["id"] == "d"
    assert failed["error"]["code"] == -32603
    assert failed["error"]["data"]["code"] == "outcome-unknown"
    assert failed["error"]["data"]["owner"] == "server"
    assert text_of(await session.call("pid")) != before
    assert (await client.child("old"))["restarts"] == 1


async def test_a_server_that_never_answers_is_named_with_its_last_words(client: Client) -> None:
    await client.want("mute", script("old", "mute"), start_seconds=1)
    body = {"jsonrpc": "2.0", "id": 5, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    answer = await client.http.post("/s/mute/mcp", json=body)
    fault = answer.json()["error"]
    assert answer.status_code == 503
    assert "'mute'" in fault["message"]
    assert "old server up" in fault["data"]["stderr"]
    assert "abcdef123456" not in answer.text


async def test_a_command_that_is_not_there_is_named(client: Client) -> None:
    await client.want("none", ["/nowhere/at/all"])
    body = {"jsonrpc": "2.0", "id": 5, "method": "initialize"}
    answer = await client.http.post("/s/none/mcp", json=body)
    assert answer.status_code == 503
    assert "No such file" in answer.json()["error"]["data"]["stderr"]


async def test_garbage_on_stdout_is_skipped_and_logged_once_in_a_while(client: Client, runner: RunnerProcess) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    assert text_of(await session.call("garbage")) == "after garbage"
    lines = (runner.home / "logs" / "child-old.log").read_text().splitlines()
    assert 1 <= sum("other than JSON-RPC" in line for line in lines) <= 5


async def test_a_flood_is_bounded_and_other_servers_go_on(client: Client) -> None:
    await client.want("old", script("old"))
    await client.want("calm", script("old"))
    flooded, calm = await client.session("old"), await client.session("calm")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: flooded.call("flood", count=20_000))
            assert text_of(await calm.call("echo", text="still here")) == "still here"


async def test_a_large_result_arrives_whole(client: Client) -> None:
    await client.want("old", script("old"))
    session = await client.session("old")
    assert len(text_of(await session.call("huge", bytes=5_000_000))) == 5_000_000


async def test_replicas_share_the_sessions(client: Client) -> None:
    await client.want("old", script("old"), replicas=2)
    sessions = [await client.session("old") for _ in range(4)]
    assert len({text_of(await session.call("pid")) for session in sessions}) == 2


def ask_call(request_id: int) -> dict[str, object]:
    """A call during which the server asks."""
    return {"id": request_id, "method": "tools/call", "params": {"name": "ask"}}


async def test_a_listen_carries_the_callers_id_and_its_end_cancels_it(client: Client, runner: RunnerProcess) -> None:
    await client.want("new", script("new"))
    async with listen(client, "mine") as listening:
        stream = events(listening)
        assert subscription(await anext(stream)) == "mine"
        await client.modern("new", "tools/call", {"name": "change"}, 2)
        changed = await anext(stream)
        assert (changed["method"], subscription(changed)) == ("notifications/tools/list_changed", "mine")
    with anyio.fail_after(10):
        while "cancelled int" not in (runner.home / "logs" / "child-new.log").read_text():
            await anyio.sleep(0.02)


async def test_a_listen_that_the_server_ends_ends_with_a_result(client: Client) -> None:
    await client.want("new", script("new"))
    async with listen(client, 5) as listening:
        stream = events(listening)
        await anext(stream)
        await client.modern("new", "tools/call", {"name": "finish"}, 2)
        last = await anext(stream)
        assert last["id"] == 5
        assert last["result"]["resultType"] == "complete"
        assert [more async for more in stream] == []


async def test_a_modern_only_server_refuses_a_handshake_by_name(client: Client) -> None:
    await client.want("new", script("new"))
    answer = await client.http.post("/s/new/mcp", json={"jsonrpc": "2.0", "id": 5, "method": "initialize"})
    assert answer.status_code == 503
    assert "'new' refused to be initialized" in answer.json()["error"]["message"]
    assert (await client.modern("new", "tools/call", {"name": "change"})).status_code == 200


def listen(client: Client, request_id: Any) -> Any:
    """An open `subscriptions/listen`."""
    params = {"notifications": {"toolsListChanged": True}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": request_id, "method": "subscriptions/listen", "params": params}
    return client.http.stream("POST", "/s/new/mcp", json=body, headers={"mcp-protocol-version": "2026-07-28"})


def subscription(message: dict[str, Any]) -> Any:
    """The listen that a notification belongs to."""
    return message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]


async def never_said(said: list[dict[str, Any]]) -> None:
    """Returns when something was said: as long as it is not clear whose the question is, nobody gets it."""
    while not said:
        await anyio.sleep(0.01)


async def test_a_question_that_could_be_two_callers_waits_until_it_is_clear_whose_it_is(client: Client) -> None:
    await client.want("old", script("old"))
    able: dict[str, Any] = {"elicitation": {}}
    waiter, asker = await client.session("old", able), await client.session("old", able)
    wait = {"id": "w", "method": "tools/call", "params": {"name": "wait"}}
    said: list[dict[str, Any]] = []

    async def ask() -> None:
        async with asker.stream(ask_call(7)) as asking:
            asked = events(asking)
            said.append(await anext(asked))
            await asker.post({"id": said[0]["id"], "result": {"action": "decline"}})
            said.append(await anext(asked))

    with anyio.fail_after(20):
        async with waiter.stream(wait) as waiting:
            waited = events(waiting)
            assert (await anext(waited))["params"]["data"] == "waiting"
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                with anyio.move_on_after(0.5):
                    await never_said(said)
                await waiter.post({"method": "notifications/cancelled", "params": {"requestId": "w"}})
                assert "error" in await anext(waited), "the older call was asked nothing"
    assert said[0]["method"] == "elicitation/create"
    assert said[1]["id"] == 7


async def test_calls_of_what_is_known_to_ask_are_made_one_session_at_a_time(client: Client) -> None:
    await client.want("old", script("old"))
    said: dict[int, str] = {}

    async def ask(number: int) -> None:
        session = await client.session("old", {"elicitation": {}})
        async with session.stream(ask_call(number)) as asking:
            stream = events(asking)
            question = await anext(stream)
            await session.post({"id": question["id"], "result": {"action": "accept", "content": {"n": number}}})
            said[number] = (await anext(stream))["result"]["content"][0]["text"]

    with anyio.fail_after(20):
        await ask(0)
        async with anyio.create_task_group() as group:
            for number in range(1, 9):
                group.start_soon(ask, number)
    assert {number: orjson.loads(text)["content"]["n"] for number, text in said.items()} == {n: n for n in range(9)}


async def test_a_log_line_that_could_be_two_callers_is_shown_to_neither(client: Client) -> None:
    await client.want("old", script("old"))
    one, other = await client.session("old"), await client.session("old")
    wait = {"id": "w", "method": "tools/call", "params": {"name": "wait"}}
    with anyio.fail_after(20):
        async with one.stream(wait) as waiting:
            stream = events(waiting)
            assert (await anext(stream))["params"]["data"] == "waiting"
            logged = await other.call("log", 4)
            assert logged.headers["content-type"] == "application/json", "nothing came before the answer"
            await one.post({"method": "notifications/cancelled", "params": {"requestId": "w"}})
            assert "error" in await anext(stream)
