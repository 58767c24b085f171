"""The event stream reader: however a stream is cut, the same events come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import UpstreamError
from hub.upstream.sse import Event, Reader, frame

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [
        b"",
        b"data: a",
        b"data:b",
        b"data",
        b"data: \xe4\xbd\xa0",
        b"event: x",
        b"id: 7",
        b": note",
        b"retry: 5",
        b"junk: 1",
    ]
)


def read(chunks: list[bytes]) -> list[Event]:
    reader = Reader(10_000)
    return [event for chunk in chunks for event in reader.feed(chunk)]


@given(st.lists(st.tuples(LINES, LINE_ENDS)), st.lists(st.integers(0, 200)))
def test_any_chunking_gives_the_same_events(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in lines) + b"\n\n"
    at = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[start:end] for start, end in zip(at, at[1:], strict=False)]
    assert read(pieces) == read([stream])
    assert read([bytes([byte]) for byte in stream]) == read([stream])


def test_fields_are_read_as_the_standard_says() -> None:
    stream = b"event: note\r\nid: 7\r\ndata: one\r\ndata:two\r\n: comment\r\n\r\ndata\n\n"
    assert read([stream]) == [Event("note", b"one\ntwo", "7"), Event("message", b"", "7")]


def test_a_byte_order_mark_in_front_is_not_part_of_the_first_field() -> None:
    for pieces in ([b"\xef\xbb\xbfdata: 1\n\n"], [b"\xef", b"\xbb\xbfda", b"ta: 1\n\n"]):
        assert [event.data for event in read(pieces)] == [b"1"]


def test_an_event_beyond_the_limit_is_refused_before_it_is_whole() -> None:
    reader = Reader(100)
    with pytest.raises(UpstreamError):
        for _ in range(20):
            reader.feed(b"data: " + b"x" * 10)


def test_many_small_events_never_add_up_to_the_limit() -> None:
    reader = Reader(100)
    assert sum(len(reader.feed(b"data: " + b"x" * 50 + b"\n\n")) for _ in range(50)) == 50


@pytest.mark.parametrize("message", [b'{"a":1}', b'{\n "a": 1\r\n}', b'{"a":\r1}'])
def test_a_framed_message_comes_back_whole(message: bytes) -> None:
    (event,) = read([frame(message)])
    assert event.data.split() == message.split()
