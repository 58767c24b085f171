"""The face in front of the real local engines, through the official OpenAI client: few calls, no key, no download
from a model hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from hub.inference.relay import Bounds
from tests.hub.inference.support import Face, a_face

pytestmark = pytest.mark.anyio

STARTUP_SECONDS = 60


@pytest.fixture(scope="module")
def weights() -> Path:
    """The GGUF file: `ENTREPOT_TEST_GGUF`, or where the installation keeps it."""
    named = os.environ.get("ENTREPOT_TEST_GGUF")
    folder = Path.home() / ".cache" / "entrepot" / "models"
    found = [Path(named)] if named else sorted(folder.rglob("SmolLM2-135M-Instruct*.gguf"))
    if not found or not found[0].is_file():
        pytest.skip("no local weights: set ENTREPOT_TEST_GGUF to a SmolLM2-135M-Instruct GGUF file")
    pytest.importorskip("xllamacpp")
    return found[0]


@contextlib.contextmanager
def running(socket: Path, *command: str) -> Generator[Path]:
    """A process that listens on `socket`, ended with the block."""
    child = subprocess.Popen([sys.executable, "-m", *command, "--uds", str(socket)], start_new_session=True)
    try:
        ends = time.monotonic() + STARTUP_SECONDS
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
            while time.monotonic() < ends and child.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("http://engine/v1/models").status_code < 500:
                        break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.1)
        assert child.poll() is None, f"{command[0]} ended at its start"
        yield socket
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)


@pytest.fixture(scope="module")
def llama(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    socket = tmp_path_factory.mktemp("l") / "l.sock"
    with running(socket, "hub.runner.llama", "--model", str(weights), "--threads", "2"):
        yield socket


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    socket = tmp_path_factory.mktemp("e") / "e.sock"
    with running(socket, "hub.runner.embedder"):
        yield socket


@pytest.fixture
async def face(tmp_path: Path, llama: Path, embedder: Path) -> AsyncGenerator[Face]:
    async with a_face(tmp_path, Bounds()) as face:
        await face.models.put(
            "local",
            {
                "url": "http://engine/v1",
                "socket": str(llama),
                "native_tools": False,
            },
        )
        await face.models.put(
            "embed",
            {"kind": "embedding", "url": "http://engine/v1", "socket": str(embedder), "facts": {"dimensions": 512}},
        )
        yield face


@pytest.fixture
async def client(face: Face) -> AsyncGenerator[openai.AsyncOpenAI]:
    # The client library stands on httpx's successor.
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(face.app)) as transport:
        yield openai.AsyncOpenAI(
            api_key="any", base_url="http://hub/v1", http_client=transport, max_retries=0, timeout=120
        )


def tool(name: str, description: str, argument: str) -> Any:
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS: list[Any] = [
    tool("get_weather", "Get the current weather or the forecast for a city.", "city"),
    tool("calculator", "Evaluate an arithmetic expression and return the number.", "expression"),
    tool("search_documents", "Search the company's documents and policies for an answer.", "query"),
]


async def test_a_completion_whole_and_streamed(client: openai.AsyncOpenAI, face: Face) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
    whole = await client.chat.completions.create(model="local", messages=messages, max_tokens=12, temperature=0)
    assert whole.choices[0].message.content
    assert whole.usage is not None
    stream = await client.chat.completions.create(
        model="local",
        messages=messages,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert {chunk.model for chunk in chunks} == {"local"}
    # A kept connection that the engine dropped after the stream must not show.
    await client.chat.completions.create(model="local", messages=messages, max_tokens=1)
    assert face.usage.totals()[0].failures == 0


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("What is the weather in Oslo tomorrow?", "get_weather", {"city": "Oslo"}),
        ("How much is 3.5 + 2.25?", "calculator", {"expression": "3.5 + 2.25"}),
        ("公司的年假政策是什么？", "search_documents", {"query": "公司的年假政策是什么？"}),
    ],
)
async def test_the_small_model_calls_the_right_tool(
    client: openai.AsyncOpenAI, text: str, name: str, arguments: dict[str, str]
) -> None:
    messages: list[Any] = [{"role": "user", "content": text}]
    answer = await client.chat.completions.create(model="local", messages=messages, tools=TOOLS)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)


async def test_small_talk_is_answered_in_words_and_a_result_is_used(client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Hello, how are you?"}]
    answer = await client.chat.completions.create(model="local", messages=messages, tools=TOOLS, max_tokens=20)
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls
    call = {"id": "1", "type": "function", "function": {"name": "search_documents", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "How many days of leave does an employee get?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Every employee gets 27 days of paid leave a year."},
    ]
    answer = await client.chat.completions.create(
        model="local", messages=messages, tools=TOOLS, max_tokens=40, temperature=0
    )
    assert "27" in (answer.choices[0].message.content or "")


async def test_embeddings_and_the_list_of_models(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="embed", input=["annual leave", "年假"])
    assert [len(row.embedding) for row in answer.data] == [512, 512]
    first, second = (row.embedding for row in answer.data)
    assert sum(a * b for a, b in zip(first, second, strict=True)) > 0.4
    assert [model.id async for model in client.models.list()] == ["embed", "local"]


async def test_errors_come_as_the_clients_own_exceptions(client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.NotFoundError, match="does not exist or you may not use it"):
        await client.chat.completions.create(model="never", messages=messages)
    with pytest.raises(openai.BadRequestError) as caught:
        long: list[Any] = [{"role": "user", "content": "word " * 9000}]
        await client.chat.completions.create(model="local", messages=long)
    assert caught.value.code == "context_length_exceeded"
