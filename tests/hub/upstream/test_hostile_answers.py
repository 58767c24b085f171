"""Whatever bytes a server answers with, however they are cut: read rightly or refused, never a crash, never a wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import OutcomeUnknown, UpstreamError
from hub.upstream import jsonrpc
from hub.upstream.address import Address
from hub.upstream.http1 import Connection, Origin, Response
from hub.upstream.sse import Event, Reader
from hub.upstream.terms import Bounds

OK = b"HTTP/1.1 200 OK\r\n"
SSE = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BOUNDS = Bounds(answer_bytes=10_000)
seeded = settings(max_examples=300, deadline=None, derandomize=True)


class Wire:
    """A transport that swallows what is written."""

    closed = False

    def write(self, data: bytes) -> None:
        """To nobody."""

    writelines = write

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing comes on its own here."""

    resume_reading = pause_reading


def answered(*pieces: bytes, closed: bool = True) -> tuple[Response | Exception, Connection]:
    """What becomes of an exchange whose answer comes in these pieces; then the server closes."""

    async def run() -> tuple[Response | Exception, Connection]:
        origin = Origin(Address("http://server/mcp"))
        connection, wire = Connection(origin), Wire()
        connection.connection_made(wire)  # pyright: ignore[reportArgumentType] - what a transport is used for here
        exchange = asyncio.create_task(connection.exchange(b"", b"", BOUNDS))
        await asyncio.sleep(0)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
        if closed or wire.closed:
            connection.connection_lost(None)
        async with asyncio.timeout(5):
            (found,) = await asyncio.gather(exchange, return_exceptions=True)
        assert isinstance(found, Response | Exception)
        if isinstance(found, Response) and found.streaming:
            try:
                found.body = await found.read(BOUNDS.answer_bytes)
            except UpstreamError as error:
                found = error
        return found, connection

    return asyncio.run(run())


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in zip(places, places[1:], strict=False)]


@seeded
@given(
    st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=6), st.sampled_from(["length", "chunked", "close"])
)
def test_however_it_is_cut_and_framed_the_body_is_the_same(body: bytes, cuts: list[int], framing: str) -> None:
    answer = {
        "length": OK + b"content-length: %d\r\n\r\n%b" % (len(body), body),
        "chunked": OK
        + b"transfer-encoding: chunked\r\n\r\n"
        + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"")
        + b"0\r\n\r\n",
        "close": OK + b"\r\n" + body,
    }[framing]
    found, connection = answered(*cut(b"HTTP/1.1 100 Continue\r\n\r\n" + answer, cuts), closed=framing == "close")
    assert isinstance(found, Response)
    assert found.body == body
    assert (connection.origin.idle_connections == 1) is (framing != "close")


@seeded
@given(st.lists(st.binary(max_size=80), max_size=5), st.integers(0, 60), st.binary(max_size=8))
def test_noise_is_refused_and_nobody_is_left_waiting(noise: list[bytes], at: int, change: bytes) -> None:
    broken = bytearray(OK + b"content-length: 5\r\ncontent-type: application/json\r\n\r\nhello")
    broken[at : at + len(change)] = change
    for pieces in ([bytes(broken)], noise, [SSE, *noise]):
        found, _ = answered(*pieces)
        assert isinstance(found, Response | UpstreamError)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "not HTTP"),
        (b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!", "not HTTP"),
        (b"content-length: 5\r\nmcp-session-id: a\r\nmcp-session-id: b\r\n\r\nhello", "came twice"),
        (b"content-length: -1\r\n\r\n", "not HTTP"),
        (b"content-length: 5x\r\n\r\nhello", "not HTTP"),
        (b"content-length: 99999999999999999999\r\n\r\n", "not HTTP"),
        (b"transfer-encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (b"transfer-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", "not HTTP"),
        (b"content-length: 5\r\nx: a\r\n b\r\n\r\nhello", "not HTTP"),
        (b"content-length: 5\nx: y\n\nhello", "not HTTP"),
        (b"content-length : 5\r\n\r\nhello", "not HTTP"),
        (b"x: a\0b\r\ncontent-length: 5\r\n\r\nhello", "not HTTP"),
        (b"x: " + b"y" * 70_000, "64 KiB"),
        (b"content-length: 20000\r\n\r\n" + b"x" * 20_000, "beyond the limit"),
    ],
)
def test_an_answer_whose_framing_is_in_doubt_is_refused(head: bytes, why: str) -> None:
    found, connection = answered(OK + head, closed=False)
    assert isinstance(found, UpstreamError)
    assert why in found.message
    assert connection.origin.idle_connections == 0


def test_another_protocol_is_not_taken_up() -> None:
    found, _ = answered(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
    assert isinstance(found, UpstreamError)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_can_have_no_body_ends_with_its_head(status: bytes) -> None:
    found, connection = answered(b"HTTP/1.1 " + status + b"\r\ncontent-length: 5\r\n\r\n", closed=False)
    assert isinstance(found, Response)
    assert found.body == b""
    assert connection.origin.idle_connections == 1


def test_trailers_say_nothing() -> None:
    found, _ = answered(
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nmcp-session-id: late\r\n\r\n", closed=False
    )
    assert isinstance(found, Response)
    assert (found.body, b"mcp-session-id" in found.headers) == (b"x", False)


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    one = OK + b"content-length: 1\r\n\r\n"
    found, connection = answered(one + b"a" + one + b"b", closed=False)
    assert isinstance(found, Response)
    assert (found.body, connection.transport.is_closing()) == (b"a", True)


def test_an_answer_that_breaks_off_leaves_its_outcome_unknown() -> None:
    for part in (b"", OK, OK + b"content-length: 5\r\n\r\nhel", OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhel"):
        found, _ = answered(part)
        assert isinstance(found, OutcomeUnknown)


@seeded
@given(
    st.lists(st.text(alphabet="ab:\u00e9\u2028 ", max_size=12), min_size=1, max_size=4),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_however_an_event_stream_is_cut_its_events_are_the_same(texts: list[str], cuts: list[int]) -> None:
    stream = b"\xef\xbb\xbf" + b"".join(b"event: x\r\ndata: %b\r\n\r\n" % text.encode() for text in texts)
    reader, whole = Reader(10_000), Reader(10_000)
    events: list[Event] = []
    for piece in cut(stream, cuts):
        events += reader.feed(piece)
    assert events == whole.feed(stream)
    assert [event.data.decode() for event in events] == texts


@seeded
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_break_the_event_reader(pieces: list[bytes]) -> None:
    reader = Reader(200)
    for piece in pieces:
        try:
            reader.feed(piece)
        except UpstreamError:
            return


@seeded
@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_break_the_reader_of_messages(noise: bytes, at: int) -> None:
    good = b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":[1]}}'
    for data in (noise, good[:at] + noise + good[at:]):
        try:
            message: Any = jsonrpc.read(data)
            message.params()
            jsonrpc.read(jsonrpc.write(message.members))
        except jsonrpc.NotJson:
            continue
