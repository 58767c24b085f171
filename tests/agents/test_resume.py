"""kill -9 of the worker in the middle of a run: it goes on, and no effect happens twice."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from agents.border import listening
from agents.worker import TOKEN_FILE
from hub.settings import Settings
from tests.agents.conftest import modern
from tests.agents.support.hub import ScriptedHub, completion

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
MANIFEST = {
    "name": "mover",
    "description": "Moves things, then says what it did.",
    "instructions": "Say what happened.",
    "model": "small",
    "tools": ["store/take", "store/put"],
    "plan": [{"tool": "store/take"}, {"tool": "store/put"}],
}


@contextlib.asynccontextmanager
async def killable(home: Path, hub_socket: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker process that is ready; killed at the end if it still lives."""
    command = (sys.executable, "-m", "tests.agents.support.worker", str(home), str(hub_socket))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        while (await process.stdout.readline()).strip() != b"ready":
            assert process.returncode is None and not process.stdout.at_eof()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def client_of(settings: Settings) -> httpx.AsyncClient:
    """A client of the worker's socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(settings.agents_socket))
    return httpx.AsyncClient(transport=transport, base_url="http://agents", timeout=60)


async def begun(client: httpx.AsyncClient) -> str:
    """The id of a run of `mover`, started as a task."""
    put = await client.put("/agents/mover", content=orjson.dumps(MANIFEST))
    assert put.status_code == 200, put.text
    request = modern("tools/call", {"name": "mover", "arguments": {"question": "go"}}, tasks=True)
    answer = await client.post("/mcp", content=orjson.dumps(request))
    result = answer.json()["result"]
    assert (result["resultType"], result["status"]) == ("task", "working")
    return result["taskId"]


async def moved(arguments: dict[str, Any]) -> dict[str, Any]:
    """A tool with an effect."""
    return {"content": [{"type": "text", "text": "done"}]}


async def test_a_killed_worker_finishes_its_run_and_repeats_no_tool_call(tmp_path: Path) -> None:
    hub, settings = ScriptedHub(), Settings.model_validate({"home": tmp_path, "port": 1})
    asked, resumed = asyncio.Event(), asyncio.Event()

    async def model(body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await resumed.wait()
        return completion("Moved.")

    hub.offer("store/take", moved)
    hub.offer("store/put", moved)
    hub.model = model
    settings.run_dir.mkdir(mode=0o700, parents=True)
    (settings.run_dir / TOKEN_FILE).write_text("service-key")
    socket = settings.run_dir / "hub.sock"
    with anyio.fail_after(90):
        async with listening(hub.app(), socket):
            async with killable(tmp_path, socket) as first, client_of(settings) as client:
                run = await begun(client)
                await asked.wait()
                first.kill()
                await first.wait()
            resumed.set()
            async with killable(tmp_path, socket), client_of(settings) as client:
                ended = (await client.get(f"/runs/{run}/end")).json()
    assert (ended["state"], ended["output"]) == ("done", {"answer": "Moved."}), ended["error"]
    assert [address for address, _ in hub.tool_calls] == ["store/take", "store/put"]
    assert len(hub.model_calls) == 2
    # The key of the first life is worthless too.
    assert set(hub.revoked) == {"key_0", "key_1"}
    assert hub.valid == set()


async def test_a_tool_call_that_a_crash_interrupted_is_not_repeated_but_reported(tmp_path: Path) -> None:
    hub, settings = ScriptedHub(), Settings.model_validate({"home": tmp_path, "port": 1})
    underway = asyncio.Event()

    async def never(arguments: dict[str, Any]) -> dict[str, Any]:
        underway.set()
        await asyncio.Event().wait()
        return {}

    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("It is not known whether it was put." if "unknown" in str(body) else "Moved.")

    hub.offer("store/take", moved)
    hub.offer("store/put", never)
    hub.model = model
    settings.run_dir.mkdir(mode=0o700, parents=True)
    (settings.run_dir / TOKEN_FILE).write_text("service-key")
    socket = settings.run_dir / "hub.sock"
    with anyio.fail_after(90):
        async with listening(hub.app(), socket):
            async with killable(tmp_path, socket) as first, client_of(settings) as client:
                run = await begun(client)
                await underway.wait()
                first.kill()
                await first.wait()
            async with killable(tmp_path, socket), client_of(settings) as client:
                ended = (await client.get(f"/runs/{run}/end")).json()
    assert ended["output"] == {"answer": "It is not known whether it was put."}, ended["error"]
    assert [address for address, _ in hub.tool_calls] == ["store/take", "store/put"]
