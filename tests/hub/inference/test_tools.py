"""Tool calls made by the hub: valid whatever the engine says, and honest when there is none to make."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from hub.inference import arguments
from tests.hub.inference.support import Face, a_face, events
from tests.support.engine import Exchange, FakeEngine, chunk, completion

pytestmark = pytest.mark.anyio


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    """A tool as requests carry it; all arguments are required."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


WEATHER = tool("get_weather", "Get the weather forecast for a city.", city={"type": "string", "maxLength": 20})
SEARCH = tool("search_documents", "Search documents for an answer.", query={"type": "string"})
SCALE = tool(
    "scale",
    "Change how many replicas of a server run.",
    size={"type": "integer", "minimum": 1},
    mode={"enum": ["gentle", "hard"]},
)


def ask(text: str, *tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], "tools": list(tools)} | more


def called(response: Any) -> tuple[str, Any]:
    """Name and arguments of the only call of an answer."""
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    return call["function"]["name"], json.loads(call["function"]["arguments"])


class Says:
    """An engine that says the given things in turn."""

    def __init__(self, *said: Any) -> None:
        self.said = list(said)

    async def __call__(self, exchange: Exchange) -> None:
        text = self.said.pop(0)
        if isinstance(text, int):
            await exchange.answer({"error": {"message": "unknown field"}}, text)
        elif exchange.body.get("stream"):
            await exchange.begin()
            await exchange.event(chunk(text, "stop"))
            await exchange.end()
        else:
            await exchange.answer(completion(text if isinstance(text, str) else json.dumps(text)))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[FakeEngine]:
    async with FakeEngine(tmp_path / "e.sock", Says()) as engine:
        yield engine


@pytest.fixture
async def face(tmp_path: Path, engine: FakeEngine) -> AsyncGenerator[Face]:
    async with a_face(tmp_path) as face:
        spec = {"url": "http://e/v1", "socket": str(engine.socket), "native_tools": False}
        await face.models.put("m", spec | {"parameters": {"planner": "ranked"}, "facts": {"grammar": "none"}})
        await face.models.put("free", spec)
        await face.models.put("lark", spec | {"parameters": {"planner": "ranked"}})
        yield face


async def test_a_sole_free_text_argument_takes_the_users_whole_words(face: Face, engine: FakeEngine) -> None:
    response = await face.post("/v1/chat/completions", ask("Search documents on leave", WEATHER, SEARCH))
    assert called(response) == ("search_documents", {"query": "Search documents on leave"})
    assert engine.seen == []


async def test_a_text_argument_is_a_span_of_the_users_words(face: Face, engine: FakeEngine) -> None:
    engine.behaviour = Says({"city": "New York"})
    asked = ask("What is the weather in New York?", WEATHER, SEARCH)
    assert called(await face.post("/v1/chat/completions", asked)) == ("get_weather", {"city": "New York"})
    spans = engine.seen[0].body["response_format"]["json_schema"]["schema"]["properties"]["city"]["enum"]
    assert {"New York", "weather in New", "York"} <= set(spans)


@pytest.mark.parametrize("first", [400, "Sure! The city is Oslo."])
async def test_an_engine_without_grammars_is_asked_by_schema_from_then_on(
    face: Face, engine: FakeEngine, first: Any
) -> None:
    engine.behaviour = Says(first, {"city": "Oslo"}, {"city": "Oslo"})
    asked = ask("What is the weather in Oslo?", WEATHER) | {"model": "lark"}
    assert called(await face.post("/v1/chat/completions", asked)) == ("get_weather", {"city": "Oslo"})
    assert called(await face.post("/v1/chat/completions", asked)) == ("get_weather", {"city": "Oslo"})
    assert ["grammar" in exchange.body for exchange in engine.seen] == [True, False, False]


async def test_what_the_words_settle_is_not_asked(face: Face, engine: FakeEngine) -> None:
    asked = ask("Change the replicas of the server to 3, the gentle way", SCALE, tool_choice="required")
    assert called(await face.post("/v1/chat/completions", asked)) == ("scale", {"size": 3, "mode": "gentle"})


async def test_arguments_that_do_not_fit_are_never_passed_on(face: Face, engine: FakeEngine) -> None:
    engine.behaviour = Says({"city": "x" * 21}, "not json")
    response = await face.post("/v1/chat/completions", ask("What is the weather?", WEATHER, tool_choice="required"))
    assert (response.status_code, response.json()["error"]["code"]) == (502, "model-failed")
    assert "get_weather" in response.json()["error"]["message"]


async def test_a_specific_choice_is_obeyed_and_an_impossible_one_refused(face: Face, engine: FakeEngine) -> None:
    wanted = {"type": "function", "function": {"name": "search_documents"}}
    asked = ask("What is the weather?", WEATHER, SEARCH)
    assert called(await face.post("/v1/chat/completions", asked | {"tool_choice": wanted}))[0] == "search_documents"
    for choice in ("sometimes", {"function": {"name": "other"}}):
        response = await face.post("/v1/chat/completions", asked | {"tool_choice": choice})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "tool_choice")


async def test_choice_none_answers_in_words_without_tools(face: Face, engine: FakeEngine) -> None:
    engine.behaviour = Says("Sunny.")
    response = await face.post("/v1/chat/completions", ask("Weather?", WEATHER, tool_choice="none"))
    assert response.json()["choices"][0]["message"]["content"] == "Sunny."
    assert not {"tools", "tool_choice"} & engine.seen[0].body.keys()


async def test_a_result_is_answered_from_and_told_in_words(face: Face, engine: FakeEngine) -> None:
    engine.behaviour = Says("Sunny.")
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny, 20 degrees"},
    ]
    asked = ask("", WEATHER, SEARCH) | {"messages": messages, "stream": True}
    got = events(await face.post("/v1/chat/completions", asked))
    assert got[0]["choices"][0]["delta"]["content"] == "Sunny."
    told = engine.seen[0].body["messages"]
    assert [message["role"] for message in told] == ["user"]
    assert "Result of get_weather:\nsunny, 20 degrees" in told[0]["content"]
    assert told[0]["content"].endswith("What is the weather in Oslo?")


async def test_a_larger_model_chooses_for_itself_within_the_list(face: Face, engine: FakeEngine) -> None:
    engine.behaviour = Says({"tool": "get_weather"}, {"city": "Paris"}, {"tool": "answer_directly"}, "Hello!")
    asked = ask("Is it nice in the capital of France?", WEATHER, SEARCH) | {"model": "free"}
    response = await face.post("/v1/chat/completions", asked)
    assert called(response) == ("get_weather", {"city": "Paris"})
    assert response.json()["usage"]["total_tokens"] == 18
    enum = engine.seen[0].body["response_format"]["json_schema"]["schema"]["properties"]["tool"]["enum"]
    assert enum == ["get_weather", "search_documents", "answer_directly"]
    response = await face.post("/v1/chat/completions", asked)
    assert response.json()["choices"][0]["message"]["content"] == "Hello!"
    assert response.json()["usage"]["total_tokens"] == 18


async def test_a_streamed_call_comes_as_deltas(face: Face, engine: FakeEngine) -> None:
    asked = ask("Find the leave policy", SEARCH, stream=True, stream_options={"include_usage": True})
    got = events(await face.post("/v1/chat/completions", asked))
    deltas = [piece["choices"][0]["delta"] for piece in got[:-2] if piece["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert deltas[1]["tool_calls"][0]["index"] == 0
    assert json.loads(deltas[1]["tool_calls"][0]["function"]["arguments"]) == {"query": "Find the leave policy"}
    assert got[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert got[-2]["usage"]["total_tokens"] == 0
    assert got[-1] == "[DONE]"


def test_words_that_would_break_a_grammar_are_harmless() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    made = arguments.grammar(schema, {"a": {"type": "string"}}, 'say "hi"\n\\ %json {} start: "x"')
    assert made.splitlines()[-1] == 'span: %regex {"substring_words": "say hi %json {} start: x"}'
    assert made.count("start:") == 2


@pytest.mark.parametrize(
    ("name", "schema", "words", "value"),
    [
        ("expression", {"type": "string"}, "What is (4 + 5) * 3?", "(4 + 5) * 3"),
        ("count", {"type": "integer"}, "Show the last 20 lines", 20),
        ("count", {"type": "integer"}, "from 3 to 4", None),
        ("level", {"enum": ["error", "info"]}, "Show me every Error", "error"),
        ("to", {"type": "string", "format": "email"}, "Write to ann@example.com now", "ann@example.com"),
        ("url", {"type": "string", "format": "uri"}, "Fetch https://example.com/a?b=1", "https://example.com/a?b=1"),
        ("day", {"type": "string", "format": "date"}, "On 2026-11-21 please", "2026-11-21"),
    ],
)
def test_plain_words_settle_an_argument_only_when_they_leave_no_doubt(
    name: str, schema: dict[str, Any], words: str, value: Any
) -> None:
    planned = arguments.plan({"type": "object", "properties": {name: schema}, "required": [name]}, words)
    assert planned.settled == ({} if value is None else {name: value})
