"""Finding by meaning, with the real engine behind the hub: vectors come, are kept, and are missed without harm."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from hub.catalog.vectors import MODELS
from hub.runner import embedder
from tests.hub.gateway.test_finding import found, offering, tool
from tests.support.hub import RunningHub
from tests.support.upstreams import serving

pytestmark = pytest.mark.anyio

TOOLS = [
    tool("send_mail", "Deliver a message to a mailbox."),
    tool("weather", "Conditions and forecast of a place."),
    tool("book_room", "Reserve a room in a hotel."),
    tool("play", "Start a song on a speaker."),
]


def engine(path: Path) -> tuple[Starlette, socket.socket]:
    """The embedding engine where the runner would have it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(16)
    return Starlette(routes=[Mount("/s/local-embedder", app=embedder.application())]), listener


async def ranked_by(running: RunningHub, query: str) -> tuple[str, list[str]]:
    async with running.connect("modern", "/mcp?mode=search") as client:
        answer = await client.call_tool("find_tools", {"query": query})
        told: dict[str, Any] = answer.structured_content or {}
        return told["rankedBy"], [one["name"] for one in told["tools"]]


async def test_questions_are_understood_in_two_languages_once_the_vectors_are_there(running: RunningHub) -> None:
    await offering(running, "house", TOOLS)
    app, listener = engine(running.hub.settings.runner_socket)
    async with serving(app, listener, lifespan=False), asyncio.timeout(60):
        await running.hub.finder.settled()
        by, names = await ranked_by(running, "do I need an umbrella")
        assert (by, names[0]) == ("words and meaning (minilm-l6)", "weather")
        by, names = await ranked_by(running, "\u653e\u4e00\u9996\u6b4c")
        assert (by, names[0]) == ("words and meaning (use-multilingual)", "play")
        await offering(running, "more", [tool("hire_van", "Rent a vehicle.")])
        await running.hub.finder.settled()
        assert (await ranked_by(running, "borrow a car"))[1][0] == "hire_van"
    # The engine is gone: its vectors stay, questions go without.
    by, names = await ranked_by(running, "reserve a room")
    assert (by, names) == ("words", ["book_room"])


async def test_vectors_are_kept_in_the_database(running: RunningHub) -> None:
    await offering(running, "house", TOOLS)
    app, listener = engine(running.hub.settings.runner_socket)
    async with serving(app, listener, lifespan=False), asyncio.timeout(60):
        await running.hub.finder.settled()
    index = running.hub.finder.index
    assert index is not None
    for model in MODELS:
        kept = await running.hub.vectors.kept(index, model)
        assert kept.complete == 1.0
        assert (kept.matrix == index.meanings[model].matrix).all()


async def test_without_an_engine_the_words_answer(running: RunningHub) -> None:
    await offering(running, "house", TOOLS)
    async with running.connect("modern", "/mcp?mode=search") as client:
        assert await found(client, "hotel room") == ["book_room"]
