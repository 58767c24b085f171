"""A server that dies, hangs, lies or floods: its callers get an error that names it, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import RunningHub, events, running_hub
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio

CALL: dict[str, Any] = {"name": "act", "arguments": {}}
ECHO: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}
TOOL = {"name": "act", "inputSchema": {"type": "object"}}
MEBIBYTE = 2**20

Act = Callable[[Exchange], Awaitable[None]]


def acting(act: Act) -> Act:
    """A modern server with one tool, which is `act`."""

    async def behave(one: Exchange) -> None:
        method = one.message.get("method")
        if method == "server/discover":
            told: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0}
            await one.answer(told | {"resultType": "complete", "cacheScope": "private"})
        elif method == "tools/list":
            await one.answer({"resultType": "complete", "tools": [TOOL], "ttlMs": 0, "cacheScope": "private"})
        elif method == "tools/call":
            await act(one)
        else:
            await one.whole(b"{}", "400 Bad Request")

    return behave


@asynccontextmanager
async def beside_a_good_one(home: Path, act: Act, **settings: Any) -> AsyncGenerator[tuple[RunningHub, RawServer]]:
    async with RawServer(acting(act)) as server, running_hub(home, **settings) as running:
        await running.everything("good")
        await running.register("bad", server.url)
        yield running, server


async def dies(one: Exchange) -> None:
    one.reset()


async def says_nothing(one: Exchange) -> None:
    await asyncio.Event().wait()


async def answers_garbage(one: Exchange) -> None:
    await one.whole(b"<html>502 Bad Gateway</html>", "502 Bad Gateway")


async def answers_no_http(one: Exchange) -> None:
    await one.send(b"220 mail.example.com ESMTP\r\n")


async def promises_more_than_it_sends(one: Exchange) -> None:
    await one.send(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"jsonrpc":"2.0"')
    one.close()


async def answers_another(one: Exchange) -> None:
    await one.whole(b'{"jsonrpc":"2.0","id":"someone-else","result":{"content":[]}}')


async def answers_neither(one: Exchange) -> None:
    await one.whole(b'{"jsonrpc":"2.0","id":1}')


async def answers_no_object(one: Exchange) -> None:
    await one.whole(b'{"jsonrpc":"2.0","id":1,"result":[1,2]}')


async def stops_streaming(one: Exchange) -> None:
    await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\n")
    one.close()


async def floods(one: Exchange) -> None:
    await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        await one.send(b" " * 65_536)


async def floods_one_event(one: Exchange) -> None:
    await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ")
    while True:
        await one.send(b"x" * 65_536)


async def redirects(one: Exchange) -> None:
    await one.whole(b"", "307 Temporary Redirect", "location: http://127.0.0.1:1/other\r\n")


FAILURES = (
    dies,
    says_nothing,
    answers_garbage,
    answers_no_http,
    promises_more_than_it_sends,
    answers_another,
    answers_neither,
    answers_no_object,
    stops_streaming,
    floods,
    floods_one_event,
    redirects,
)


@pytest.mark.parametrize("act", FAILURES, ids=lambda act: act.__name__)
async def test_the_error_names_the_server_and_the_others_go_on(act: Act, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"call_seconds": 0.5 if act is says_nothing else 20, "max_result_bytes": 4 * MEBIBYTE}
    async with beside_a_good_one(tmp_path, act, **settings) as (running, _), asyncio.timeout(15):
        failed, fine = await asyncio.gather(
            running.modern("tools/call", CALL, identifier="mine"), running.modern("tools/call", ECHO)
        )
        message = events(failed)[-1]
        assert message["id"] == "mine"
        assert "'bad'" in message["error"]["message"]
        assert message["error"]["data"]["owner"] == "server"
        assert events(fine)[-1]["result"]["structuredContent"]["text"] == "hi"


async def test_a_server_that_stays_down_is_left_alone_for_a_moment_and_lists_go_on(tmp_path: Path) -> None:
    async with beside_a_good_one(tmp_path, dies) as (running, server):
        for _ in range(8):
            message = events(await running.modern("tools/call", CALL))[-1]
            assert "'bad'" in message["error"]["message"]
        calls = [one for one in server.seen if one.message.get("method") == "tools/call"]
        assert len(calls) == 5, "the breaker lets no more through"
        tools = events(await running.modern("tools/list"))[-1]["result"]["tools"]
        assert {"act", "echo"} <= {tool["name"] for tool in tools}


async def test_a_write_is_never_sent_twice_by_itself(tmp_path: Path) -> None:
    async with beside_a_good_one(tmp_path, dies) as (running, server):
        message = events(await running.modern("tools/call", CALL))[-1]
        assert message["error"]["data"]["code"] == "outcome-unknown"
        assert sum(one.message.get("method") == "tools/call" for one in server.seen) == 1


async def test_an_answer_of_many_megabytes_arrives_whole(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as running:
        await running.everything()
        params = {"name": "large", "arguments": {"bytes": 20 * MEBIBYTE}}
        result = events(await running.modern("tools/call", params))[-1]["result"]
        assert len(result["content"][0]["text"]) == 20 * MEBIBYTE


async def test_an_error_of_the_server_is_relayed_as_it_is(tmp_path: Path) -> None:
    async def refuse(one: Exchange) -> None:
        await one.whole(b'{"jsonrpc":"2.0","id":1,"error":{"code":-31999,"message":"No","data":{"x":[1]}}}')

    async with beside_a_good_one(tmp_path, refuse) as (running, _):
        answer = await running.modern("tools/call", CALL)
        assert (answer.status_code, answer.json()["error"]) == (
            200,
            {"code": -31999, "message": "No", "data": {"x": [1]}},
        )


async def test_unknown_members_of_a_result_survive(tmp_path: Path) -> None:
    async def vendor(one: Exchange) -> None:
        block = {"type": "text", "text": "t", "vendorX": {"deep": 1}}
        await one.answer({"resultType": "complete", "content": [block], "vendorTop": 1.50})

    async with beside_a_good_one(tmp_path, vendor) as (running, _):
        result = events(await running.modern("tools/call", CALL))[-1]["result"]
        assert result["vendorTop"] == 1.5
        assert result["content"][0]["vendorX"] == {"deep": 1}
