"""What the hub mounts of the agents part: its REST routes, its tables, its process and its server. Light on purpose:
neither the durable engine nor a manifest's validators are loaded into the hub's workers.

Reads come straight from the tables; changes are relayed to the agents worker, their only writer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents.db import HISTORY
from agents.runs.records import Records, shown_agent, shown_run, shown_step
from hub.db.engine import Database
from hub.db.migrate import History
from hub.errors import BadRequest, Forbidden, HubError, Unauthenticated, Unavailable
from hub.identity.principal import Principal
from hub.settings import Settings

RELAY_SECONDS = 60.0
MOST_RUNS = 500
Handler = Callable[[Request], Awaitable[Response]]


class Context(Protocol):
    """What the hub hands to a part."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        ...

    @property
    def database(self) -> Database:
        """The hub's database; the part's tables lie in it."""
        ...


@dataclass(frozen=True, slots=True)
class Process:
    """A process that `up` keeps running."""

    name: str
    command: tuple[str, ...]
    socket: Path


@dataclass(frozen=True, slots=True)
class InternalServer:
    """A server of ours that the hub registers by itself, reached over a local socket."""

    name: str
    title: str
    description: str
    url: str
    socket: Path


class AgentsPart:
    """The agents part, as the entry-point group `hub.parts` finds it."""

    name = "agents"

    @property
    def history(self) -> History:
        """Its migrations."""
        return HISTORY

    def processes(self, settings: Settings) -> Sequence[Process]:
        """The agents worker; none with `--bare`."""
        if settings.bare:
            return ()
        return (Process("agents", (sys.executable, "-m", "agents.worker"), settings.agents_socket),)

    def internal_servers(self, settings: Settings) -> Sequence[InternalServer]:
        """Agents as tools; none with `--bare`."""
        if settings.bare:
            return ()
        about = "The agents of this hub, each as a tool."
        return (InternalServer("agents", "Agents", about, "http://agents/mcp", settings.agents_socket),)

    def routes(self, context: Context) -> list[Route]:
        """The admin API's agents and runs, to be mounted at the root."""
        face = _Api(Records(context.database), context.settings.agents_socket)
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/api/v1/agents", face.agents),
            ("GET", "/api/v1/agents/{name}", face.agent),
            ("PUT", "/api/v1/agents/{name}", face.relay),
            ("DELETE", "/api/v1/agents/{name}", face.relay),
            ("GET", "/api/v1/runs", face.runs),
            ("GET", "/api/v1/runs/{run}", face.run),
            ("POST", "/api/v1/runs/{run}/cancel", face.relay),
        ]
        return [Route(path, _admitted(handler, method), methods=[method]) for method, path, handler in table]


class _Api:
    def __init__(self, records: Records, socket: Path) -> None:
        self._records = records
        self._socket = socket

    async def agents(self, request: Request) -> Response:
        agents = await asyncio.to_thread(self._records.agents)
        last = await asyncio.to_thread(self._records.last_runs, [agent.name for agent in agents])
        return JSONResponse({"agents": [shown_agent(agent, last.get(agent.name)) for agent in agents]})

    async def agent(self, request: Request) -> Response:
        agent = await asyncio.to_thread(self._records.agent, request.path_params["name"])
        last = await asyncio.to_thread(self._records.last_runs, [agent.name])
        return JSONResponse(shown_agent(agent, last.get(agent.name)))

    async def runs(self, request: Request) -> Response:
        try:
            limit = max(1, min(MOST_RUNS, int(request.query_params.get("limit", "50"))))
        except ValueError as error:
            raise BadRequest("limit must be a number.") from error
        agent = request.query_params.get("agent", "")
        runs = await asyncio.to_thread(self._records.latest, agent, limit)
        return JSONResponse({"runs": [shown_run(run) for run in runs]})

    async def run(self, request: Request) -> Response:
        run = await asyncio.to_thread(self._records.run, request.path_params["run"])
        steps = await asyncio.to_thread(self._records.steps, run.id)
        return JSONResponse(shown_run(run) | {"steps": [shown_step(step) for step in steps]})

    async def relay(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/api/v1")
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        try:
            async with httpx.AsyncClient(transport=transport, timeout=RELAY_SECONDS) as client:
                answer = await client.request(
                    request.method, f"http://agents{path}", content=await request.body(), headers={}
                )
        except httpx.HTTPError as error:
            raise Unavailable(
                "The agents worker cannot be reached.", hint="`entrepot status` shows its state."
            ) from error
        kind = answer.headers.get("content-type")
        return Response(answer.content, answer.status_code, media_type=kind)


def _admitted(handler: Handler, method: str) -> Handler:
    """The handler behind admission: `admin:read` may look, `admin` may change."""

    async def serve(request: Request) -> Response:
        try:
            principal = request.scope.get("principal")
            if not isinstance(principal, Principal):
                raise Unauthenticated("This needs a key or a signed-in person.")
            enough = {"admin", "admin:read"} if method == "GET" else {"admin"}
            if not enough & principal.scopes:
                scope = "admin:read" if method == "GET" else "admin"
                raise Forbidden("This needs more rights than you have.", data={"scopes": [scope]})
            return await handler(request)
        except HubError as error:
            told = {"title": error.message, "status": error.status, "detail": error.message} | error.envelope()
            return JSONResponse(told, error.status, media_type="application/problem+json")

    return serve


part = AgentsPart()
