"""A worker in process beside a scripted hub, and calls to it over its MCP face."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import ASGIApp

from agents.border import listening
from agents.runs.sandbox import Sandboxes
from agents.wire.face import CALLER, META, MODERN, TASKS
from agents.wire.hub import HubAddress
from agents.worker import TOKEN_FILE, Worker
from hub.settings import Settings
from tests.agents.support.hub import ScriptedHub
from tests.agents.support.sandboxes import PlainSandboxes

CALLER_TOLD = {"subject": "key:anna", "name": "anna", "scopes": ["call", "models"], "trace": "ab" * 16}


@dataclass
class Running:
    """A worker that serves."""

    app: ASGIApp
    worker: Worker
    hub: ScriptedHub
    client: httpx.AsyncClient
    settings: Settings

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.settings.agents_socket

    async def rpc(
        self, method: str, params: dict[str, Any] | None = None, *, tasks: bool = False, caller: Any = None
    ) -> dict[str, Any]:
        """A modern request; the last message of the answer."""
        answer = await self.client.post("/mcp", content=orjson.dumps(modern(method, params, tasks, caller)))
        return orjson.loads(answer.content)

    async def ask(self, agent: str, given: dict[str, Any], caller: Any = None) -> dict[str, Any]:
        """Call an agent and give its result, or fail with its error."""
        message = await self.rpc("tools/call", {"name": agent, "arguments": given}, caller=caller)
        assert "result" in message, message
        return message["result"]


def modern(method: str, params: dict[str, Any] | None, tasks: bool = False, caller: Any = None) -> dict[str, Any]:
    """A request of 2026-07-28 as the hub sends it."""
    meta: dict[str, Any] = {
        f"{META}protocolVersion": MODERN,
        f"{META}clientCapabilities": {"extensions": {TASKS: {}}} if tasks else {},
        CALLER: caller or CALLER_TOLD,
    }
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": (params or {}) | {"_meta": meta}}


@asynccontextmanager
async def worker_beside(hub: ScriptedHub, home: Path, sandboxes: Sandboxes | None = None) -> AsyncGenerator[Running]:
    """A whole worker in this process, its hub on a socket."""
    settings = Settings.model_validate({"home": home, "port": 1})
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (settings.run_dir / TOKEN_FILE).write_text("service-key")
    socket = settings.run_dir / "hub.sock"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(listening(hub.app(), socket))
        worker = Worker(settings, HubAddress("http://hub", str(socket)), sandboxes or PlainSandboxes())
        app = await stack.enter_async_context(worker.running())
        await stack.enter_async_context(listening(app, settings.agents_socket))
        transport = httpx.AsyncHTTPTransport(uds=str(settings.agents_socket))
        client = httpx.AsyncClient(transport=transport, base_url="http://agents", timeout=60)
        yield Running(app, worker, hub, await stack.enter_async_context(client), settings)


@pytest.fixture
def hub() -> ScriptedHub:
    """A scripted hub that offers nothing yet."""
    return ScriptedHub()


@pytest.fixture
async def agents(hub: ScriptedHub, tmp_path: Path) -> AsyncGenerator[Running]:
    """A worker beside `hub`."""
    async with worker_beside(hub, tmp_path) as running:
        yield running
