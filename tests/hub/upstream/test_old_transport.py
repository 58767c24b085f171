"""Sessions over HTTP+SSE whose server misbehaves on the one stream that carries everything back."""

from __future__ import annotations

import asyncio

import pytest

from hub.errors import UpstreamError
from hub.upstream.address import Address
from hub.upstream.connection import Upstream
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import SessionLost
from hub.upstream.legacy_sse import SseSession
from hub.upstream.terms import Deadlines, Terms
from tests.support.legacy import STREAM, event
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio

HELLO = b'{"protocolVersion":"2024-11-05","capabilities":{}}'
WELCOME = b'{"jsonrpc":"2.0","id":"initialize","result":{"protocolVersion":"2024-11-05","capabilities":{}}}'


class OldServer:
    """Answers the handshake on its stream; what becomes of other requests is up to the test."""

    def __init__(self, endpoint: bytes = b"/messages") -> None:
        self.endpoint = endpoint
        self.stream: Exchange | None = None
        self.over = asyncio.Event()
        self.posted = asyncio.Event()
        self.status = "202 Accepted"

    async def __call__(self, one: Exchange) -> None:
        """One request."""
        if one.head.startswith(b"GET"):
            self.stream = one
            await one.send(STREAM + b"event: endpoint\r\ndata: " + self.endpoint + b"\r\n\r\n")
            await self.over.wait()
            one.close()
            return
        method = one.message.get("method")
        await one.whole(b"", self.status)
        if method == "initialize" and self.stream is not None:
            await self.stream.send(event(WELCOME))
        elif method == "tools/call":
            self.posted.set()


async def ignore(_message: Message) -> None:
    """Nothing is expected."""


def upstream(server: RawServer) -> Upstream:
    return Upstream("old", Address(server.url, transport="sse"), "d", Terms(Deadlines(2, 5)))


@pytest.mark.parametrize("endpoint", [b"http://[nowhere", b"http://other.example/messages"])
async def test_an_address_that_is_none_or_elsewhere_is_refused(endpoint: bytes) -> None:
    async with RawServer(OldServer(endpoint)) as server, asyncio.timeout(5):
        with pytest.raises(UpstreamError, match="'old' named an address"):
            await SseSession.open(upstream(server), HELLO, ignore)


async def test_an_ended_stream_is_a_lost_session_for_what_is_asked_next() -> None:
    old = OldServer()
    async with RawServer(old) as server, asyncio.timeout(5):
        session = await SseSession.open(upstream(server), HELLO, ignore)
        old.over.set()
        assert not await session.listen(ignore)
        with pytest.raises(SessionLost, match="'old'"):
            await session.request(b"1", "tools/call", b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', ignore)
        await session.close()


async def test_an_answer_without_result_or_error_fails_its_own_request() -> None:
    old = OldServer()
    async with RawServer(old) as server, asyncio.timeout(5):
        session = await SseSession.open(upstream(server), HELLO, ignore)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}'
        asked = asyncio.create_task(session.request(b"1", "tools/call", body, ignore))
        await old.posted.wait()
        assert old.stream is not None
        await old.stream.send(event(b"[]") + event(b'{"jsonrpc":"2.0","id":1}'))
        with pytest.raises(UpstreamError, match="'old' answered without result or error"):
            await asked
        old.status = "404 Not Found"
        with pytest.raises(SessionLost):
            await session.request(b"2", "tools/call", b'{"jsonrpc":"2.0","id":2,"method":"tools/call"}', ignore)
        await session.close()
