"""A run in the real sandbox: it works, and sees neither network, product code nor secrets."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from agents.runs.sandbox import RunnerSandboxes
from hub.runner.sandbox.bubblewrap import BubblewrapSandbox
from hub.settings import Settings
from tests.agents.conftest import Running, worker_beside
from tests.agents.support.hub import LEAVE, ScriptedHub, completion, structured

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]

PROBE = """
import os, socket

def look(given):
    found = []
    for path in given["paths"]:
        try:
            open(path).close()
            found.append(path)
        except OSError:
            pass
    try:
        socket.create_connection(("127.0.0.1", given["port"]), timeout=2).close()
        found.append("port")
    except OSError:
        pass
    try:
        import hub
        found.append("import hub")
    except ImportError:
        pass
    found += [name for name in os.environ if "ENTREPOT" in name and name not in ("ENTREPOT_BORDER", "ENTREPOT_ENTRY")]
    return {"answer": ",".join(found)}
"""


@asynccontextmanager
async def walled(hub: ScriptedHub, home: Path) -> AsyncGenerator[Running]:
    """A worker whose runs execute in the sandbox of a real runner."""
    verdict = await asyncio.to_thread(BubblewrapSandbox().probe)
    if not verdict.ok:
        pytest.skip(f"no sandbox here: {verdict.reason}")
    settings = Settings.model_validate({"home": home, "port": 1})
    env = dict(os.environ) | {"ENTREPOT_HOME": str(home)}
    runner = await asyncio.create_subprocess_exec(sys.executable, "-m", "hub.runner", cwd=ROOT, env=env)
    try:
        transport = httpx.AsyncHTTPTransport(uds=str(settings.runner_socket), retries=8)
        async with httpx.AsyncClient(transport=transport, timeout=20) as client:
            assert (await client.get("http://runner/readyz")).status_code == 200
        async with worker_beside(hub, home, RunnerSandboxes(settings.runner_socket)) as running:
            yield running
    finally:
        runner.terminate()
        await runner.wait()


async def test_the_librarian_answers_from_inside_the_sandbox(hub: ScriptedHub, tmp_path: Path) -> None:
    async def search(arguments: dict[str, Any]) -> dict[str, Any]:
        return structured({"hits": [LEAVE], "indexing": False})

    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("Employees have 25 days of paid annual leave.")

    hub.offer("rag/search_documents", search, readOnlyHint=True)
    hub.model = model
    async with walled(hub, tmp_path) as agents:
        with anyio.fail_after(60):
            result = await agents.ask("librarian", {"question": "How much annual leave do I have?"})
    assert result["structuredContent"]["found"] is True, result


async def test_code_of_an_agent_sees_nothing_of_the_host(hub: ScriptedHub, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    manifest = {
        "name": "probe",
        "description": "Looks around.",
        "instructions": "Look.",
        "model": "small",
        "entry": "probe.py:look",
        "files": {"probe.py": PROBE},
        "input": {"type": "object"},
    }
    async with listener, walled(hub, tmp_path) as agents:
        stored = await agents.client.put("/agents/probe", content=orjson.dumps(manifest))
        assert stored.status_code == 200
        paths = [str(secret), str(agents.settings.run_dir / "agents.token"), str(Path(__file__)), "/etc/shadow"]
        port = listener.sockets[0].getsockname()[1]
        with anyio.fail_after(60):
            result = await agents.ask("probe", {"paths": paths, "port": port})
    assert result.get("structuredContent") == {"answer": ""}, result


async def test_cancelling_a_run_ends_its_process(hub: ScriptedHub, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def silent(body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        return {}

    async def search(arguments: dict[str, Any]) -> dict[str, Any]:
        return structured({"hits": [LEAVE], "indexing": False})

    hub.offer("rag/search_documents", search, readOnlyHint=True)
    hub.model = silent
    async with walled(hub, tmp_path) as agents:
        with anyio.fail_after(60):
            call = {"name": "librarian", "arguments": {"question": "How much leave?"}}
            task = (await agents.rpc("tools/call", call, tasks=True))["result"]["taskId"]
            await asked.wait()
            await agents.rpc("tasks/cancel", {"taskId": task}, tasks=True)
            ended = (await agents.client.get(f"/runs/{task}/end")).json()
    assert ended["state"] == "cancelled"
