"""The pure parts of the ingress and of reading servers: drawn input, only the errors that are promised, linear time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from hub.errors import HubError, InvalidParams, UpstreamError
from hub.gateway import eras
from hub.gateway.calls import template_pattern
from hub.gateway.eras import Head
from hub.gateway.wire import parse
from hub.upstream import jsonrpc
from hub.upstream.modern_http import header_value
from hub.upstream.sse import Event, Reader, frame
from tests.fuzz import values
from tests.fuzz.requests import Known, shot

ROUNDS = 400
KNOWN = Known("token", "localhost", ["0.session"], ["state"])


def a_message(rng: Random) -> None:
    """An envelope is read, and written anew to the same members; or it is refused."""
    tree = values.bent(rng, {"jsonrpc": "2.0", "id": 1, "method": "a/b", "params": {"name": "x", "_meta": {"k": [1]}}})
    body = values.written(tree)
    try:
        message = parse(body)
    except (HubError, jsonrpc.NotJson):
        return
    again = jsonrpc.fragments(jsonrpc.write(message.members))
    assert {key: bytes(raw) for key, raw in again.items()} == {key: bytes(raw) for key, raw in message.members.items()}


def an_era(rng: Random) -> None:
    """Headers and a message have an era, and a modern one climbs or is refused."""
    sent = b"".join(shot(rng, KNOWN).pieces)
    head, _, body = sent.partition(b"\r\n\r\n")
    pairs = [line.partition(b":")[::2] for line in head.split(b"\r\n")[1:]]
    told = Head.of([(name.lower(), value) for name, value in pairs])
    with suppress(HubError, jsonrpc.NotJson):
        message = parse(body)
        assert eras.classify(told, message) in ("modern", "legacy")
        eras.climb(told, message)


def a_mirrored_header(rng: Random) -> None:
    """What is written into a mirrored header reads back the same; any other bytes read or are refused."""
    text = values.word(rng)
    with suppress(UnicodeEncodeError):
        assert eras.decode_header(header_value(text)) == text
    with suppress(HubError):
        eras.decode_header(
            rng.choice((b"", b"=?base64?")) + rng.randbytes(rng.randint(0, 20)) + rng.choice((b"", b"?="))
        )


def a_template(rng: Random) -> None:
    """A template matches what a backtracking expression of the same meaning does."""
    pieces = "".join(rng.choices(("a", "b", "/", "{x}", "{y}", " ", "ab"), k=rng.randint(0, 8)))
    uri = "".join(rng.choices(("a", "b", "/", " ", "ab"), k=rng.randint(0, 10)))
    parts = re.split(r"(\{[^{}]*\})", pieces)
    slow = re.compile("".join("[^\\s]*?" if part.startswith("{") else re.escape(part) for part in parts))
    assert bool(template_pattern(pieces).fullmatch(uri)) == bool(slow.fullmatch(uri)), (pieces, uri)


def an_event_stream(rng: Random) -> None:
    """A stream says the same in whatever pieces it arrives; noise is bounded."""
    lines = (
        b"data: a",
        b"data:",
        b"data",
        b": c",
        b"event: x",
        b"id: 7",
        b"id: \0",
        b"\xff",
        b"",
        b"",
        b"\xef\xbb\xbfdata: b",
    )
    ends = (b"\n", b"\r\n", b"\r")
    raw = b"".join(rng.choice(lines) + rng.choice(ends) for _ in range(rng.randint(0, 30))) + frame(b'{"end":1}')
    whole = Reader(10_000).feed(raw)
    reader, at = Reader(10_000), 0
    pieces: list[Event] = []
    while at < len(raw):
        size = rng.randint(1, 9)
        pieces += reader.feed(raw[at : at + size])
        at += size
    assert pieces == whole
    with pytest.raises(UpstreamError):
        Reader(50).feed(b"data: " + b"x" * 100)


DRAWS: tuple[Callable[[Random], None], ...] = (a_message, an_era, a_mirrored_header, a_template, an_event_stream)


@pytest.mark.parametrize("draw", DRAWS)
def test_it_only_does_what_it_promises(draw: Callable[[Random], None]) -> None:
    began = time.process_time()
    for number in range(ROUNDS):
        draw(Random(f"1:{number}"))
    # Not a target: a hundred times what it takes, and far below what backtracking does.
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("x://{a}/{b}/{c}/{d}/{e}/{f}/end", "x://" + "/" * 1900),
        ("{a}a{b}a{c}a{d}a{e}a{f}b", "a" * 1999),
        ("{a}{b}{c}{d}{e}{f}{g}{h} ", "a" * 1999),
    ],
)
def test_no_template_of_a_server_makes_a_callers_uri_cost_more_than_its_length(template: str, uri: str) -> None:
    began = time.process_time()
    assert template_pattern(template).fullmatch(uri) is None
    assert time.process_time() - began < 1


def test_a_template_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidParams):
        template_pattern("{a}" * 1000)
