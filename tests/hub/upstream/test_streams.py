"""What a server says on the stream of an answer: noise is skipped, and nothing goes on without end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.errors import UpstreamTimeout
from hub.upstream import jsonrpc
from hub.upstream.address import Address
from hub.upstream.connection import Upstream
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import LegacySession, SessionLost
from hub.upstream.terms import Deadlines, Terms
from tests.support.legacy import STREAM, event, legacy
from tests.support.upstreams import Behaviour, Exchange, RawServer

pytestmark = pytest.mark.anyio


async def asked(act: Behaviour, terms: Terms | None = None) -> tuple[bytes, list[bytes]]:
    """The answer to a call, and what was said before."""
    heard: list[bytes] = []

    async def on_message(message: Message) -> None:
        heard.append(message.raw)

    async with RawServer(legacy(act)) as server, asyncio.timeout(5):
        upstream = Upstream("raw", Address(server.url), "d", terms or Terms(Deadlines(2, 5, 5)))
        try:
            hello: dict[str, Any] = {"protocolVersion": b'"2025-11-25"', "capabilities": b"{}"}
            session = await LegacySession.open(upstream, jsonrpc.write(hello), on_message)
            body = jsonrpc.request(b"1", "tools/call", {"name": b'"act"'})
            return (await session.request(b"1", "tools/call", body, on_message)).message.raw, heard
        finally:
            upstream.close()


async def test_noise_before_the_answer_is_skipped() -> None:
    said = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
    result = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    noise = (
        b"",
        b"nonsense",
        b'{"jsonrpc":"2.0","method":5}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":[1]}',
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0"}',
    )

    async def act(one: Exchange) -> None:
        await one.send(STREAM + b"".join(event(line) for line in (*noise, said, result)))
        one.close()

    assert await asked(act) == (result, [said])


async def test_signs_of_life_alone_do_not_keep_a_call_open() -> None:
    async def act(one: Exchange) -> None:
        await one.send(STREAM)
        while True:
            await one.send(b": still here\n\n")
            await asyncio.sleep(0.02)

    with pytest.raises(UpstreamTimeout, match="'raw' did not finish within its total deadline of 0.3 s"):
        await asked(act, Terms(Deadlines(2, 5, call=0.2, idle=0.2, total=0.3)))


@pytest.mark.parametrize(
    ("body", "lost"),
    [
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID"}}', True),
        (b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"}}', True),
        (b"Invalid session ID", True),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"No such training session"}}', False),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Bad Request"}}', False),
    ],
)
async def test_a_refusal_about_the_session_means_that_it_is_lost(body: bytes, lost: bool) -> None:
    async def act(one: Exchange) -> None:
        await one.whole(body, "400 Bad Request")

    if lost:
        with pytest.raises(SessionLost, match="'raw'"):
            await asked(act)
    else:
        assert (await asked(act))[0] == body
