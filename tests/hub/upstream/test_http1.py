"""The HTTP/1.1 client against a socket that misbehaves at every stage."""

from __future__ import annotations

import asyncio

import pytest

from hub.errors import HubError, OutcomeUnknown, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.upstream.address import Address
from hub.upstream.http1 import Bounds, Origin, Response
from tests.support.upstreams import Behaviour, Exchange, RawServer, free_socket

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(connect_seconds=2, answer_seconds=5, answer_bytes=10_000)


async def ask(behaviour: Behaviour, bounds: Bounds = BOUNDS, times: int = 1) -> tuple[list[Response], RawServer]:
    async with RawServer(behaviour) as server:
        origin = Origin(Address(server.url))
        try:
            async with asyncio.timeout(10):
                answers = [await origin.exchange(b"POST", origin.path, [], b"{}", bounds) for _ in range(times)]
        finally:
            origin.close()
        return answers, server


async def test_answers_reuse_one_connection() -> None:
    answers, server = await ask(lambda one: one.whole(b"[1]"), times=3)
    assert [one.body for one in answers] == [b"[1]"] * 3
    assert server.connections == 1


async def test_a_chunked_answer_is_put_together() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await one.send(b"2;ext=1\r\nde\r\n0\r\n\r\n")

    answers, server = await ask(behave, times=2)
    assert [one.body for one in answers] == [b"abcde"] * 2
    assert server.connections == 1


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        one.close()

    answers, server = await ask(behave, times=2)
    assert [one.body for one in answers] == [b"abc"] * 2
    assert server.connections == 2


async def test_an_interim_answer_is_passed_over() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")

    answers, _ = await ask(behave)
    assert (answers[0].status, answers[0].body) == (200, b"x")
    assert b"link" not in answers[0].headers


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ],
)
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_that_breaks_after_sending_leaves_the_outcome_unknown(sent: bytes, how: str) -> None:
    async def behave(one: Exchange) -> None:
        await one.send(sent)
        getattr(one, how)()

    with pytest.raises(OutcomeUnknown):
        await ask(behave)


async def test_a_closed_port_was_never_asked() -> None:
    listener = free_socket()
    port = listener.getsockname()[1]
    listener.close()
    origin = Origin(Address(f"http://127.0.0.1:{port}/mcp"))
    with pytest.raises(UpstreamDown):
        await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".invalid"])
async def test_a_host_that_is_none_was_never_asked(host: str) -> None:
    origin = Origin(Address(f"http://{host}/mcp"))
    with pytest.raises(UpstreamDown):
        await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_an_error_of_the_server(sent: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask(lambda one: one.send(sent))
    assert not isinstance(caught.value, UpstreamDown | UpstreamTimeout)


async def test_an_endless_head_is_cut_off() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await one.send(b"x-more: " + b"y" * 8000 + b"\r\n")

    with pytest.raises(UpstreamError, match="64 KiB"):
        await ask(behave)


async def test_an_answer_beyond_the_limit_is_cut_off_while_it_arrives() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n")
        while True:
            await one.send(b"z" * 4096)

    with pytest.raises(UpstreamError, match="beyond the limit"):
        await ask(behave)


async def test_silence_ends_in_a_timeout() -> None:
    async def behave(one: Exchange) -> None:
        await asyncio.Event().wait()

    with pytest.raises(UpstreamTimeout):
        await ask(behave, Bounds(2, 0.05, 1000))


async def test_more_than_was_promised_costs_the_connection_and_never_reaches_the_next_call() -> None:
    async def behave(one: Exchange) -> None:
        poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
        await one.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood" + poison)

    answers, server = await ask(behave, times=2)
    assert [one.body for one in answers] == [b"good", b"good"]
    assert server.connections == 2


async def test_closing_an_origin_fails_what_is_under_way() -> None:
    asked = asyncio.Event()

    async def behave(one: Exchange) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with RawServer(behave) as server:
        origin = Origin(Address(server.url))
        call = asyncio.create_task(origin.exchange(b"POST", "/", [], b"{}", BOUNDS))
        await asked.wait()
        origin.close()
        with pytest.raises(HubError):
            async with asyncio.timeout(1):
                await call


async def test_closing_an_origin_ends_a_stream_that_is_being_read() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await asyncio.Event().wait()

    async with RawServer(behave) as server:
        origin = Origin(Address(server.url))
        response = await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)
        chunks = response.chunks()
        assert await anext(chunks) == b"data: 1\n\n"
        origin.close()
        with pytest.raises(OutcomeUnknown):
            async with asyncio.timeout(1):
                await anext(chunks)


async def test_giving_up_a_stream_hangs_up_on_the_server() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await asyncio.Event().wait()

    async with RawServer(behave) as server:
        origin = Origin(Address(server.url))
        response = await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)
        response.close()
        async with asyncio.timeout(2):
            await server.left.wait()
        origin.close()


async def test_a_stream_that_nobody_reads_stops_the_server_not_the_memory() -> None:
    sent = 0

    async def behave(one: Exchange) -> None:
        nonlocal sent
        await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while True:
            await one.send(b": " + b"x" * 65_534)
            sent += 65_536

    async with RawServer(behave) as server:
        origin = Origin(Address(server.url))
        response = await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)
        before = -1
        async with asyncio.timeout(5):
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
        assert sent < 32 * 2**20, "the kernel's buffers hold some, but the hub must not"
        response.close()
        origin.close()


async def test_a_cancelled_call_hangs_up_and_its_connection_is_not_used_again() -> None:
    async def behave(one: Exchange) -> None:
        if len(server.seen) == 1:
            await asyncio.Event().wait()
        await one.whole(b"2")

    async with RawServer(behave) as server:
        origin = Origin(Address(server.url))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)
        answer = await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)
        assert (answer.body, server.connections) == (b"2", 2)
        origin.close()


async def test_an_early_answer_to_a_large_request_is_taken() -> None:
    answers, _ = await ask(lambda one: one.whole(b"{}", "413 Too Large", "connection: close\r\n"))
    assert answers[0].status == 413


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nx-evil: 1", b"a\rb"])
async def test_a_header_value_cannot_smuggle_another(value: bytes) -> None:
    origin = Origin(Address("http://127.0.0.1:1/"))
    with pytest.raises(UpstreamError):
        origin.head(b"POST", "/", [(b"x-name", value)], 0)


async def test_a_stream_left_after_its_answer_keeps_the_connection_when_the_server_ends_it() -> None:
    async def behave(one: Exchange) -> None:
        await one.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await one.send(b"9\r\ndata: 1\n\n\r\n")
        await more.wait()
        await one.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    more = asyncio.Event()
    async with RawServer(behave) as server:
        origin = Origin(Address(server.url))
        for _ in range(3):
            more.clear()
            response = await origin.exchange(b"POST", "/", [], b"{}", BOUNDS)
            assert await anext(response.chunks()) == b"data: 1\n\n"
            response.leave()
            more.set()
            async with asyncio.timeout(2):
                while not origin.idle_connections:
                    await asyncio.sleep(0.005)
        assert server.connections == 1
        origin.close()
