"""The first pass of a new installation: a cited answer by the bundled agent, its trail in the audit, nothing left."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.installation import Installation, installed

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
TASKS = f"{META}tasks"
LEAVE = {"question": "How many days of annual leave does Harbour Works give?"}
SECONDS = 60


def weights() -> list[Path]:
    """Model files that are on this machine already: a test downloads none."""
    told = os.environ.get("ENTREPOT_TEST_GGUF")
    return [Path(told)] if told else sorted((Path.home() / ".cache/entrepot/models").glob("*.gguf"))


async def request(http: httpx.AsyncClient, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A modern request of a client that declares the Tasks extension; its result."""
    meta: dict[str, Any] = {
        f"{META}protocolVersion": MODERN,
        f"{META}clientCapabilities": {"extensions": {TASKS: {}}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
    name = params.get("name") or params.get("taskId")
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
        "mcp-name": str(name),
    }
    answer = await http.post("/mcp", json=body, headers=headers)
    message: dict[str, Any] = answer.json()
    assert "result" in message, message
    return message["result"]


def assert_cited(output: dict[str, Any]) -> None:
    """The right answer, from the right document."""
    assert output["found"] is True, output
    assert "25 days" in output["answer"]
    assert output["citations"][0]["path"] == "harbour-works-leave-policy.md"
    assert "25 days" in output["citations"][0]["quote"]


def client_of(here: Installation, token: str) -> httpx.AsyncClient:
    """Plain HTTP with a key."""
    return httpx.AsyncClient(base_url=here.url, headers={"authorization": f"Bearer {token}"}, timeout=SECONDS)


async def read_in(here: Installation, token: str) -> None:
    """Until the bundled servers are registered and the sample documents are read: both go on after `up` returns."""
    async with client_of(here, token) as admin:
        with anyio.fail_after(SECONDS):
            for name in ("rag", "agents"):
                while (await admin.get(f"/api/v1/servers/{name}")).json().get("state") != "ready":
                    await asyncio.sleep(0.2)
            search = {"name": "search_documents", "arguments": {"query": LEAVE["question"]}}
            while (
                not (found := (await request(admin, "tools/call", search))["structuredContent"])["hits"]
                or found["indexing"]
            ):
                await asyncio.sleep(0.2)


async def as_tool(here: Installation, token: str) -> None:
    """The agent as a tool of the official client: progress is told, and a caller may leave."""
    told: list[str] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=SECONDS) as http,
        Client(streamable_http_client(f"{here.url}/mcp", http_client=http), mode=MODERN) as client,
    ):
        result = await client.call_tool("librarian", LEAVE, progress_callback=progressed)
        assert isinstance(result.structured_content, dict), result
        assert_cited(cast("dict[str, Any]", result.structured_content))
        assert any("step" in message for message in told), told
        begun = asyncio.Event()

        async def begins(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        call = asyncio.create_task(client.call_tool("librarian", LEAVE, progress_callback=begins))
        await begun.wait()
        call.cancel()
        await asyncio.wait([call])
    # The run ends soon after its caller has left.
    with anyio.fail_after(SECONDS):
        while await newest_run(here, token) != "cancelled":
            await asyncio.sleep(0.2)


async def newest_run(here: Installation, token: str) -> str:
    """The state of the run that was started last."""
    async with client_of(here, token) as admin:
        return (await admin.get("/api/v1/runs", params={"limit": 1})).json()["runs"][0]["state"]


async def as_task(here: Installation, token: str) -> str:
    """The agent as a task: handed out at once, asked for until it is completed; gives the run's id."""
    async with client_of(here, token) as http:
        task = await request(http, "tools/call", {"name": "librarian", "arguments": LEAVE})
        assert task["resultType"] == "task"
        with anyio.fail_after(SECONDS):
            while (now := await request(http, "tasks/get", {"taskId": task["taskId"]}))["status"] == "working":
                await asyncio.sleep(0.2)
        assert now["status"] == "completed", now
        assert_cited(now["result"]["structuredContent"])
        return task["_meta"]["dev.entrepot/run"]


async def assert_recorded(here: Installation, token: str, run: str) -> None:
    """The run's transcript, and its tool and model use in the audit on behalf of its caller."""
    async with client_of(here, token) as admin:
        shown = (await admin.get(f"/api/v1/runs/{run}")).json()
        subject = f"run:{run.removeprefix('run_')}"
        records = (await admin.get("/api/v1/audit", params={"trace": shown["trace"], "limit": 100})).json()["records"]
    assert {step["kind"] for step in shown["steps"]} >= {"tool", "model"}
    assert all(step["response"] for step in shown["steps"])
    mine = [record for record in records if record["trace"] == shown["trace"]]
    used = {(record["event"], record["server"]) for record in mine if record["on_behalf_of"] == shown["subject"]}
    assert used >= {("tool:call", "rag"), ("model:use", "model")}, (subject, mine)


def processes_of(home: Path) -> list[str]:
    """Processes whose environment or command names this home."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(home).encode() in told:
            found.append(told.decode(errors="replace").replace("\0", " ")[-300:])
    return found


async def test_first_light_shows_the_whole_pass_and_leaves_nothing_behind(tmp_path: Path) -> None:
    files = weights()
    if not files:
        pytest.skip("no model file: set ENTREPOT_TEST_GGUF")
    home = tmp_path / "home"
    (home / "weights").mkdir(parents=True)
    for file in files:
        shutil.copy(file, home / "weights")
    with installed(home, "--no-first-light") as here:
        token = await asyncio.to_thread(here.token, "light", "call", "models", "admin")
        await read_in(here, token)
        await as_tool(here, token)
        await assert_recorded(here, token, await as_task(here, token))
    # `down` returns when the hub has said its last word; its interpreter may need a moment more to be gone.
    with anyio.move_on_after(5):
        while processes_of(home):
            await asyncio.sleep(0.1)
    assert processes_of(home) == []
