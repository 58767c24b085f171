"""HTTP/1.1 towards callers: framing, order, bounds, and that a head that comes again is served as if it were parsed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from hub.serving.connection import HEAD_SECONDS, MOST_DISCARDED, MOST_HEAD_BYTES, HttpConnection

HEAD = b"POST /mcp HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\nx-more: y\r\n\r\n"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 80) if name == "sockname" else None

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, data: Any) -> None:
        self.written += b"".join(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is sent on its own here."""

    resume_reading = pause_reading


async def body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    return body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, path, the names of the headers, and the body."""
    body = await body_of(receive)
    names = b",".join(name for name, _ in scope["headers"])
    told = b"%b %b [%b] %b" % (scope["method"].encode(), scope["path"].encode(), names, body)
    length = (b"content-length", b"%d" % len(told))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": told})


def connected(app: Any = echo) -> tuple[HttpConnection, Wire]:
    config = Config(app, lifespan="off", log_config=None, timeout_keep_alive=30)
    config.load()
    config.loaded_app = app
    connection, wire = HttpConnection(config, ServerState(), {}), Wire()
    connection.connection_made(wire)  # pyright: ignore[reportArgumentType] - what a transport is used for here
    return connection, wire


async def settled(wire: Wire, end: bytes = b"") -> bytes:
    """What was written, once it ends so, or once all tasks had their turns."""
    for _ in range(200):
        await asyncio.sleep(0)
        if end and wire.written.endswith(end):
            break
    return wire.written


def fed(data: bytes, app: Any = echo) -> bytes:
    async def run() -> bytes:
        connection, wire = connected(app)
        connection.data_received(data)
        return await settled(wire)

    return asyncio.run(run())


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.data())
def test_however_the_bytes_are_cut_every_request_gets_its_own_answer_in_order(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(request(body) for body in bodies)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=8)))
    # Cuts at the ends of requests are what a caller that waits for its answers looks like.
    if data.draw(st.booleans()):
        cuts = sorted({*cuts, *(sum(len(request(one)) for one in bodies[: n + 1]) for n in range(len(bodies)))})

    async def run() -> bytes:
        connection, wire = connected()
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            connection.data_received(stream[start:end])
            await settled(wire)
        return wire.written

    told = [b"POST /mcp [host,content-length,x-more] " + body for body in bodies]
    assert asyncio.run(run()) == b"".join(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(one) + one for one in told
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.binary(max_size=60), st.integers(0, 80))
def test_no_bytes_make_it_fail_or_answer_twice(noise: bytes, tail: bytes, cut: int) -> None:
    async def run() -> bytes:
        connection, wire = connected()
        connection.data_received(request(b"one"))
        await settled(wire)
        broken = bytearray(request(b"two"))
        broken[cut : cut + len(tail) % 5] = noise[:20]
        connection.data_received(bytes(broken))
        connection.data_received(tail)
        return await settled(wire)

    written = asyncio.run(run())
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Internal Server Error" not in written


def test_a_head_that_came_while_another_request_was_served_is_never_taken_for_that_one() -> None:
    other = HEAD.replace(b"x-more", b"x-other")

    async def run() -> bytes:
        connection, wire = connected()
        connection.data_received(request(b"one"))
        connection.data_received(request(b"two", other))
        await settled(wire)
        connection.data_received(request(b"three", other))
        return await settled(wire)

    told = [line for line in asyncio.run(run()).split(b"\r\n") if line.startswith(b"POST")]
    assert [line.partition(b"HTTP")[0] for line in told] == [
        b"POST /mcp [host,content-length,x-more] one",
        b"POST /mcp [host,content-length,x-other] two",
        b"POST /mcp [host,content-length,x-other] three",
    ]


def test_a_head_that_comes_again_tells_the_app_the_length_of_its_own_body() -> None:
    async def lengths(scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        told = b"%b of %d;" % (dict(scope["headers"])[b"content-length"], len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
        await send({"type": "http.response.body", "body": told})

    async def run() -> bytes:
        connection, wire = connected(lengths)
        for body in (b"one", b"seventeen", b"x"):
            connection.data_received(request(body))
            await settled(wire)
        return wire.written

    written = asyncio.run(run())
    assert all(told in written for told in (b"3 of 3;", b"9 of 9;", b"1 of 1;"))


def test_a_length_of_thousands_of_digits_is_refused_also_behind_a_head_that_is_known() -> None:
    async def run() -> tuple[bytes, bool]:
        connection, wire = connected()
        connection.data_received(request(b"one"))
        await settled(wire)
        connection.data_received(HEAD.replace(b"%d", b"9" * 5000) + b"two")
        return await settled(wire), wire.closed

    written, closed = asyncio.run(run())
    assert written.endswith(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert closed


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", b"HTTP/1.1 400"),
        (
            b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 400",
        ),
        (b"GET /\x01 HTTP/1.1\r\nhost: h\r\n\r\n", b"HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * MOST_HEAD_BYTES, b"HTTP/1.1 431"),
        (
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n",
            b"[transfer-encoding] abc",
        ),
        (b"GET / HTTP/1.0\r\n\r\n", b"connection: close\r\n\r\nGET / [] "),
        (
            b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi",
            b",content-length] hi",
        ),
        (b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_each_form_of_request_gets_what_the_rfc_says(data: bytes, told: bytes) -> None:
    assert told in fed(data)


@pytest.mark.parametrize(
    ("start", "request_line", "told"),
    [
        ({"status": 204, "headers": []}, b"GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ({"status": 200, "headers": []}, b"GET / HTTP/1.1", b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ({"status": 200, "headers": []}, b"GET / HTTP/1.0", b"connection: close\r\n\r\nhi"),
        ({"status": 200, "headers": [(b"content-length", b"2")]}, b"HEAD / HTTP/1.1", b"content-length: 2\r\n\r\n"),
        ({"status": 200, "headers": [(b"x", b"a\r\nb: c")]}, b"GET / HTTP/1.1", b"Internal Server Error"),
        ({"status": 200, "headers": [(b"content-length", b"1")]}, b"GET / HTTP/1.1", b"Internal Server Error"),
    ],
)
def test_each_form_of_answer_is_framed(start: Message, request_line: bytes, told: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start"} | dict(start))
        await send({"type": "http.response.body", "body": b"" if start["status"] == 204 else b"hi"})

    assert fed(request_line + b"\r\nhost: h\r\n\r\n", app).endswith(told)


@pytest.mark.anyio
async def test_what_is_late_is_closed_and_what_is_served_is_not() -> None:
    loop = asyncio.get_running_loop()
    silent, wire = connected()
    silent.sweep(loop.time() + HEAD_SECONDS + 1)
    assert wire.written.startswith(b"HTTP/1.1 408")
    idle, wire = connected()
    idle.data_received(request(b"x"))
    await settled(wire, b"x")
    idle.sweep(loop.time() + HEAD_SECONDS + 1)
    assert not wire.closed
    idle.sweep(loop.time() + 31)
    assert wire.closed
    dripping, wire = connected()
    dripping.data_received(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc")
    dripping.sweep(loop.time() + HEAD_SECONDS + 1)
    assert not wire.closed
    dripping.sweep(loop.time() + 61)
    assert wire.closed


@pytest.mark.anyio
async def test_a_body_that_nobody_wants_is_read_away_up_to_a_bound() -> None:
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    connection, wire = connected(refusing)
    connection.data_received(HEAD % 10)
    await settled(wire)
    connection.data_received(b"0123456789" + HEAD % (2 * MOST_DISCARDED))
    assert (await settled(wire)).count(b"HTTP/1.1 413") == 2
    connection.data_received(b"x" * (MOST_DISCARDED + 1))
    assert wire.closed


def test_a_caller_that_was_not_told_to_go_on_is_not_taken_at_its_next_word() -> None:
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def run() -> tuple[bytes, bool]:
        connection, wire = connected(refusing)
        connection.data_received(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 40\r\n\r\n")
        return await settled(wire), wire.closed

    written, closed = asyncio.run(run())
    assert closed
    assert b"connection: close" in written


@pytest.mark.anyio
async def test_the_app_is_told_when_its_caller_leaves_and_when_it_has_its_answer() -> None:
    heard: list[str] = []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await body_of(receive)
        heard.append((await receive())["type"])

    connection, wire = connected(waiting)
    connection.data_received(request(b"x"))
    await settled(wire)
    assert heard == []
    connection.connection_lost(None)
    await settled(wire)
    assert heard == ["http.disconnect"]
