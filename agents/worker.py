"""The agents process: `python -m agents.worker`. Durable runs, and agents as MCP tools, on one local socket."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.db import HISTORY
from agents.expose import Agents
from agents.manifest import bundled
from agents.rest import Rest
from agents.runs.execution import Surroundings
from agents.runs.live import LiveRuns
from agents.runs.records import Records
from agents.runs.sandbox import RunnerSandboxes, Sandboxes
from agents.runs.service import RunService
from agents.runs.workflow import Engine
from agents.wire.face import Face
from agents.wire.hub import HubAddress, HubAdmin
from hub import __version__
from hub.db.engine import Database
from hub.db.migrate import upgrade
from hub.settings import Settings

log = logging.getLogger("agents")

TOKEN_FILE = "agents.token"
BORDERS = "borders"
INSTRUCTIONS = "Each tool is an agent: it works on its own, with models and tools of this hub, and answers at the end."


class Worker:
    """Everything of the process, made in order."""

    def __init__(self, settings: Settings, hub: HubAddress, sandboxes: Sandboxes) -> None:
        self._settings = settings
        self._database = Database(settings.database)
        self.records = Records(self._database)
        live = LiveRuns()
        admin = HubAdmin(hub, settings.run_dir / TOKEN_FILE)
        borders = settings.run_dir / BORDERS
        self._engine = Engine(settings, Surroundings(self.records, live, hub, admin, sandboxes, borders))
        service = RunService(self.records, live, self._engine)
        self._face = Face(Agents(self.records, service), name="agents", version=__version__, instructions=INSTRUCTIONS)
        self._rest = Rest(self.records, service, admin).app()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[ASGIApp]:
        """Tables, bundled agents and engine up for the time of the block; gives the app to serve."""
        await asyncio.to_thread(upgrade, self._database, HISTORY)
        if not self._settings.bare:
            await asyncio.to_thread(self._keep_bundled)
        await asyncio.to_thread(self._engine.launch)
        try:
            await self._engine.enqueue_forgotten()
            yield self._serve
        finally:
            await asyncio.to_thread(self._engine.close)
            self._database.close()

    def _keep_bundled(self) -> None:
        """Bring the bundled agents to this program's version; one that a person changed or switched off stays so."""
        kept = {agent.name: agent for agent in self.records.agents()}
        for manifest in bundled():
            present = kept.get(manifest.name)
            if present is None or present.bundled:
                enabled = present.enabled if present else True
                self.records.put_agent(manifest.name, manifest.model_dump(mode="json"), bundled=True, enabled=enabled)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/mcp":
            await self._face(scope, receive, send)
            return
        await self._rest(scope, receive, send)


def hub_address(settings: Settings) -> HubAddress:
    """Where this machine reaches the hub: its own port, not the public address that may lie behind a proxy."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return HubAddress(f"http://{host}:{settings.port}")


async def serve(worker: Worker, socket: Path) -> None:
    """Serve on `socket` until a signal ends the process."""
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with worker.running() as app:
        config = uvicorn.Config(
            app,
            uds=str(socket),
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        await uvicorn.Server(config).serve()


def main() -> None:
    """Start from the environment's settings."""
    settings = Settings()  # pyright: ignore[reportCallIssue] - every field has a default or a source
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.umask(0o077)
    worker = Worker(settings, hub_address(settings), RunnerSandboxes(settings.runner_socket))
    asyncio.run(serve(worker, settings.agents_socket))


if __name__ == "__main__":
    main()
