"""The face itself: who may use what, what a request must look like, and what is recorded."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.inprocess import InProcess
from tests.hub.inference.support import CALLER, Face, a_face
from tests.support.engine import Exchange, FakeEngine, completion

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def behave(exchange: Exchange) -> None:
    if exchange.path == "/v1/embeddings":
        rows = [{"index": at, "embedding": [float(len(text)), 0.5]} for at, text in enumerate(exchange.body["input"])]
        await exchange.answer({"data": rows[::-1], "usage": {"prompt_tokens": 3}})
    else:
        await exchange.answer(completion("hello"))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[FakeEngine]:
    async with FakeEngine(tmp_path / "e.sock", behave) as engine:
        yield engine


@pytest.fixture
async def face(tmp_path: Path, engine: FakeEngine) -> AsyncGenerator[Face]:
    async with a_face(tmp_path, max_body_bytes=100_000) as face:
        at = {"url": "http://engine/v1", "socket": str(engine.socket)}
        caps = {"max_tokens": 50, "temperature": [0, 0.5], "defaults": {"temperature": 0.25, "top_p": 0.75}}
        await face.models.put("m", at | {"remote_name": "inner", "parameters": caps})
        await face.models.put("other", at)
        await face.models.put("e", at | {"kind": "embedding", "facts": {"dimensions": 2}})
        yield face


async def test_a_caller_sees_and_uses_only_the_models_of_its_key(face: Face) -> None:
    face.principal = replace(CALLER, scopes=frozenset({"models:m"}))
    assert [card["id"] for card in (await face.get("/v1/models")).json()["data"]] == ["m"]
    assert (await face.get("/v1/models/m")).status_code == 200
    assert (await face.post("/v1/chat/completions", ASK)).status_code == 200


async def test_a_denied_and_an_absent_model_look_the_same(face: Face) -> None:
    face.principal = replace(CALLER, scopes=frozenset({"models:m"}))
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        told: list[Any] = []
        for name in ("other", "never"):
            response = await face.post(path, ASK | {"model": name, "input": "x"})
            error = response.json()["error"]
            told.append((response.status_code, error | {"trace": "", "message": error["message"].replace(name, "*")}))
        assert told[0] == told[1]
        assert told[0][0] == 404
    assert [record["outcome"] for record in face.records()] == ["denied", "denied"] * 2
    face.principal = CALLER
    await face.post("/v1/chat/completions", ASK | {"model": "never"})
    assert face.records()[-1]["outcome"] == "not-found"


async def test_nobody_gets_in_without_a_principal(face: Face) -> None:
    face.principal = None
    assert (await face.post("/v1/chat/completions", ASK)).status_code == 401
    assert (await face.get("/v1/models")).status_code == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        ({"model": "m"}, "messages"),
        (ASK | {"messages": list[Any]()}, "messages"),
        (ASK | {"messages": [{"role": "wizard"}]}, "messages.0.role"),
        (ASK | {"temperature": 3}, "temperature"),
        (ASK | {"max_tokens": 0}, "max_tokens"),
        (ASK | {"stream": "yes"}, "stream"),
        (ASK | {"tools": [{"type": "function"}]}, "tools.0.function"),
        (ASK | {"model": "e"}, "model"),
    ],
)
async def test_a_bad_request_names_the_wrong_field(
    face: Face, engine: FakeEngine, body: Any, param: str | None
) -> None:
    response = await face.post("/v1/chat/completions", body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert engine.seen == []


async def test_a_body_beyond_the_bound_is_refused(face: Face) -> None:
    assert (await face.post("/v1/chat/completions", b" " * 100_001)).status_code == 413


async def test_defaults_fill_gaps_and_caps_lower_values(face: Face, engine: FakeEngine) -> None:
    await face.post("/v1/chat/completions", ASK)
    await face.post("/v1/chat/completions", ASK | {"temperature": 2, "max_completion_tokens": 900, "top_p": None})
    first, second = (exchange.body for exchange in engine.seen)
    assert (first["model"], first["temperature"], first["max_tokens"], first["top_p"]) == ("inner", 0.25, 50, 0.75)
    assert (second["temperature"], second["max_completion_tokens"]) == (0.5, 50)


async def test_a_use_is_recorded_counted_and_measured(face: Face) -> None:
    async with face.client() as client:
        traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01"
        await client.post("/v1/chat/completions", json=ASK, headers={"traceparent": traceparent})
    record = face.records()[0]
    assert (record["subject"], record["server"], record["target"]) == ("key:1", "model", "m")
    assert (record["outcome"], record["trace"]) == ("ok", "ab" * 16)
    assert record["detail"] == "input_tokens=7 output_tokens=2"
    total = face.usage.totals()[0]
    assert (total.model, total.subject, total.calls, total.tokens.input) == ("m", "key:1", 1, 7)
    labels = {"model": "m", "direction": "output"}
    assert face.metrics.get_sample_value("entrepot_model_tokens_total", labels) == 2


async def test_embeddings_are_batched_and_put_in_order(face: Face, engine: FakeEngine) -> None:
    texts = ["x" * (1 + at % 7) for at in range(150)]
    answer = (await face.post("/v1/embeddings", {"model": "e", "input": texts})).json()
    assert [row["embedding"][0] for row in answer["data"]] == [len(text) for text in texts]
    assert [len(exchange.body["input"]) for exchange in engine.seen] == [64, 64, 22]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


async def test_embeddings_come_packed_when_asked(face: Face) -> None:
    asked = {"model": "e", "input": "four", "encoding_format": "base64", "dimensions": 2}
    answer = (await face.post("/v1/embeddings", asked)).json()
    assert struct.unpack("<2f", base64.b64decode(answer["data"][0]["embedding"])) == (4.0, 0.5)


@pytest.mark.parametrize("wrong", [{"input": []}, {"input": [""]}, {"input": "x", "dimensions": 3}, {"input": [["x"]]}])
async def test_embeddings_that_cannot_be_are_refused(face: Face, engine: FakeEngine, wrong: dict[str, Any]) -> None:
    response = await face.post("/v1/embeddings", {"model": "e"} | wrong)
    assert response.status_code == 400
    assert engine.seen == []


@pytest.mark.parametrize("rows", [[], [{"embedding": []}], [{"embedding": [None]}], [{"embedding": "?"}], "x", [1]])
async def test_vectors_that_are_none_are_not_passed_on(face: Face, engine: FakeEngine, rows: Any) -> None:
    async def lie(exchange: Exchange) -> None:
        await exchange.answer({"data": rows})

    engine.behaviour = lie
    response = await face.post("/v1/embeddings", {"model": "e", "input": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "model-failed")


async def test_the_face_is_called_in_process_like_from_outside(face: Face) -> None:
    answer = await InProcess(face.app).request(CALLER, "POST", "/v1/chat/completions", ASK)
    assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, "hello")
