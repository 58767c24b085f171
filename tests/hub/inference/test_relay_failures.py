"""What callers see, and whom it names, when an engine misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hub.inference.relay import Bounds
from tests.hub.inference.support import Face, a_face, events
from tests.support.engine import Exchange, FakeEngine, chunk, completion

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SHORT = Bounds(
    connect_seconds=1, answer_seconds=0.3, silence_seconds=0.3, look_seconds=0.3, answer_bytes=50_000, event_bytes=5_000
)


async def hang(_: Exchange) -> None:
    await asyncio.Event().wait()


async def fine(exchange: Exchange) -> None:
    if exchange.body.get("stream"):
        await exchange.begin()
        await exchange.event(chunk("he", extra="kept"))
        await exchange.event(chunk("llo", "stop"))
        if exchange.body.get("stream_options"):
            usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            await exchange.event(chunk(None, usage=usage) | {"choices": []})
        await exchange.end()
    else:
        await exchange.answer(completion("hello"))


@pytest.fixture
async def face(tmp_path: Path) -> AsyncGenerator[Face]:
    async with a_face(tmp_path, SHORT, max_body_bytes=10_000) as face:
        await face.models.put("m", {"url": "http://engine/v1", "socket": str(tmp_path / "e.sock"), "api_key": "sk-1"})
        yield face


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[FakeEngine]:
    async with FakeEngine(tmp_path / "e.sock", fine) as engine:
        yield engine


async def test_an_answer_keeps_unknown_fields_and_hides_the_engines_name_for_the_model(
    face: Face, engine: FakeEngine
) -> None:
    answer = (await face.post("/v1/chat/completions", ASK | {"top_k": 3})).json()
    assert (answer["model"], answer["timings"]) == ("m", {"kept": True})
    assert engine.seen[0].body["top_k"] == 3
    assert engine.seen[0].headers["authorization"] == "Bearer sk-1"
    assert face.models.get("m")["state"] == "ready"


async def test_a_stream_keeps_unknown_fields_and_withholds_the_usage_nobody_asked_for(
    face: Face, engine: FakeEngine
) -> None:
    got = events(await face.post("/v1/chat/completions", ASK | {"stream": True}))
    assert [piece if piece == "[DONE]" else piece["choices"][0]["delta"]["content"] for piece in got] == [
        "he",
        "llo",
        "[DONE]",
    ]
    assert got[0]["extra"] == "kept"
    assert (face.usage.totals()[0].tokens.input, face.usage.totals()[0].tokens.output) == (7, 2)


async def test_usage_is_guessed_and_marked_when_the_engine_does_not_count(face: Face, engine: FakeEngine) -> None:
    async def uncounted(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.piece(b": a comment\r\n\r\ndata: ")
        await exchange.piece(b'{"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}\r\n')
        await exchange.piece(b"\r\n")
        await exchange.end()

    engine.behaviour = uncounted
    asked = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    got = events(await face.post("/v1/chat/completions", asked))
    assert got[-2]["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "estimated": True}


async def test_an_engine_that_dies_in_the_middle_ends_the_stream_with_an_error_event(
    face: Face, engine: FakeEngine
) -> None:
    async def die(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.event(chunk("he"))
        exchange.die()

    engine.behaviour = die
    got = events(await face.post("/v1/chat/completions", ASK | {"stream": True}))
    assert got[0]["choices"][0]["delta"]["content"] == "he"
    assert (got[-1]["error"]["code"], got[-1]["error"]["owner"]) == ("model-failed", "server")
    assert face.records()[-1]["outcome"] == "model-failed"
    assert face.models.get("m")["state"] == "degraded"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_hangs_is_left_at_its_deadline(face: Face, engine: FakeEngine, stream: bool) -> None:
    engine.behaviour = hang
    with anyio.fail_after(5):
        response = await face.post("/v1/chat/completions", ASK | {"stream": stream})
        await engine.left.wait()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "model-timeout")


async def test_a_stream_that_falls_silent_is_ended(face: Face, engine: FakeEngine) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.event(chunk("he"))
        await hang(exchange)

    engine.behaviour = silent
    with anyio.fail_after(5):
        got = events(await face.post("/v1/chat/completions", ASK | {"stream": True}))
    assert got[-1]["error"]["code"] == "model-timeout"


@pytest.mark.parametrize(
    ("status", "body", "told", "code", "owner"),
    [
        (500, {"error": {"message": "boom /secret"}}, 502, "model-failed", "server"),
        (401, {"error": "bad key"}, 502, "model-misconfigured", "administrator"),
        (404, {"detail": "no such model"}, 502, "model-misconfigured", "administrator"),
        (429, {}, 429, "too-many", "client"),
        (400, {"error": {"message": "n is not supported"}}, 400, "bad-request", "client"),
        (400, {"error": {"message": "exceeds the available context size"}}, 400, "context_length_exceeded", "client"),
        (302, {}, 502, "model-misconfigured", "administrator"),
        (200, b"<html>garbage", 502, "model-failed", "server"),
        (200, {"nothing": 1}, 502, "model-failed", "server"),
        (200, b"[1]", 502, "model-failed", "server"),
    ],
)
async def test_an_engines_error_says_who_must_act(
    face: Face, engine: FakeEngine, status: int, body: Any, told: int, code: str, owner: str
) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.answer(body, status, "retry-after: 7\r\nlocation: http://elsewhere/\r\n")

    engine.behaviour = fail
    response = await face.post("/v1/chat/completions", ASK)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["owner"]) == (told, code, owner)
    assert "/secret" not in response.text
    assert told != 429 or response.headers["retry-after"] == "7"
    assert face.records()[-1]["trace"] == error["trace"] == response.headers["x-request-id"]


async def test_a_huge_answer_is_cut_off(face: Face, engine: FakeEngine) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.answer(b'"' + b"x" * 100_000 + b'"')

    engine.behaviour = flood
    response = await face.post("/v1/chat/completions", ASK)
    assert response.status_code == 502
    assert "larger than 50000 bytes" in response.json()["error"]["message"]


async def test_a_huge_or_broken_event_ends_the_stream(face: Face, engine: FakeEngine) -> None:
    for raw in (b"data: " + b"x" * 6_000, b"data: garbage\n\n", b'data: {"error": {"message": "out of memory"}}\n\n'):

        async def bad(exchange: Exchange, raw: bytes = raw) -> None:
            await exchange.begin()
            await exchange.event(chunk("he"))
            await exchange.piece(raw)
            await exchange.end()

        engine.behaviour = bad
        got = events(await face.post("/v1/chat/completions", ASK | {"stream": True}))
        assert got[-1]["error"]["code"] == "model-failed"


async def test_an_end_before_the_answers_end_is_an_error(face: Face, engine: FakeEngine) -> None:
    async def short(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.event(chunk("he"))
        await exchange.end()

    engine.behaviour = short
    assert "middle" in events(await face.post("/v1/chat/completions", ASK | {"stream": True}))[-1]["error"]["message"]


async def test_an_engine_that_is_not_there_is_down(face: Face) -> None:
    response = await face.post("/v1/chat/completions", ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "model-down")
    assert face.models.get("m")["state"] == "down"


async def test_a_kept_connection_that_was_dropped_is_replaced_once(face: Face, engine: FakeEngine) -> None:
    async def then_drop(exchange: Exchange) -> None:
        if engine.connections == 1 and len(engine.seen) == 2:
            exchange.die()
        else:
            await fine(exchange)

    engine.behaviour = then_drop
    assert (await face.post("/v1/chat/completions", ASK)).status_code == 200
    assert (await face.post("/v1/chat/completions", ASK)).status_code == 200
    assert (engine.connections, len(engine.seen)) == (2, 3)


async def test_an_engine_that_drops_a_fresh_connection_is_not_asked_again(face: Face, engine: FakeEngine) -> None:
    async def drop(exchange: Exchange) -> None:
        exchange.die()

    engine.behaviour = drop
    assert (await face.post("/v1/chat/completions", ASK)).json()["error"]["code"] == "model-failed"
    assert len(engine.seen) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_goes_away_stops_the_engine(tmp_path: Path, engine: FakeEngine, stream: bool) -> None:
    reached = asyncio.Event()

    async def begin_and_hang(exchange: Exchange) -> None:
        if stream:
            await exchange.begin()
            await exchange.event(chunk("he"))
        else:
            reached.set()
        await hang(exchange)

    engine.behaviour = begin_and_hang
    async with a_face(tmp_path) as face:
        await face.models.put("m", {"url": "http://engine/v1", "socket": str(engine.socket)})
        inbox = [{"type": "http.request", "body": _json(ASK | {"stream": stream}), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop()
            await reached.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                reached.set()

        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b"",
            "server": ("hub", 80), "client": ("c", 1), "root_path": "", "scheme": "http", "http_version": "1.1",
        }  # fmt: skip
        with anyio.fail_after(5):
            await face.app(scope, receive, send)
            await engine.left.wait()
        assert face.records()[-1]["outcome"] == "cancelled"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
