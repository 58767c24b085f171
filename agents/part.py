"""What the hub mounts of the agents part: its REST routes, its tables, its process and its server. Light on purpose:
neither the durable engine nor a manifest's validators are loaded into the hub's workers.

Reads come straight from the tables; changes are recorded here, where it is known who makes them, and relayed to the
agents worker, their only writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import httpx
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents.db import HISTORY
from agents.runs.records import Records, shown_agent, shown_run, shown_step
from agents.wire.shapes import mapping
from hub.admin_api.admit import admit
from hub.admin_api.problem import problem
from hub.audit.recorder import Audit, Recording
from hub.db.engine import Database
from hub.db.history import History
from hub.errors import BadRequest, HubError, TooLarge, Unauthenticated, Unavailable
from hub.identity.principal import Principal
from hub.policy.admission import Admission
from hub.settings import Settings
from hub.telemetry import tracing

RELAY_SECONDS = 60.0
MOST_RUNS = 500
LARGEST_MANIFEST = 2**20
"""Bytes; a manifest is a page of text."""


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

    @property
    def admission(self) -> Admission:
        """Who may do what."""
        ...

    @property
    def audit(self) -> Audit:
        """Where changes and denials are recorded."""
        ...


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

    def internal_servers(self, settings: Settings) -> Sequence[InternalServer]:
        """Agents as tools; none with `--bare`."""
        if settings.bare:
            return ()
        about = "The agents of this hub, each as a tool."
        return (InternalServer("agents", "Agents", about, "http://agents/mcp", settings.agents_socket),)

    def routes(self, context: Context) -> list[Route]:
        """The admin API's agents and runs, to be mounted at the root."""
        face = _Api(Records(context.database), context.settings.agents_socket, context.audit)
        table: list[tuple[str, str, str, Handler]] = [
            ("GET", "/api/v1/agents", "list_agents", face.agents),
            ("GET", "/api/v1/agents/{name}", "show_agent", face.agent),
            ("PUT", "/api/v1/agents/{name}", "store_agent", face.store),
            ("DELETE", "/api/v1/agents/{name}", "remove_agent", face.remove),
            ("GET", "/api/v1/runs", "list_runs", face.runs),
            ("GET", "/api/v1/runs/{run}", "show_run", face.run),
            ("POST", "/api/v1/runs/{run}/cancel", "cancel_run", face.cancel),
        ]
        return [
            Route(path, _admitted(handler, context, method, name), methods=[method], name=name)
            for method, path, name, handler in table
        ]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of somebody who may make it."""

    request: Request
    principal: Principal
    trace: str


Handler = Callable[[Asked], Awaitable[Response]]


class _Api:
    def __init__(self, records: Records, socket: Path, audit: Audit) -> None:
        self._records = records
        self._socket = socket
        self._audit = audit

    async def agents(self, asked: Asked) -> Response:
        agents = await asyncio.to_thread(self._records.agents)
        last = await asyncio.to_thread(self._records.last_runs, [agent.name for agent in agents])
        return JSONResponse({"agents": [shown_agent(agent, last.get(agent.name)) for agent in agents]})

    async def agent(self, asked: Asked) -> Response:
        agent = await asyncio.to_thread(self._records.agent, asked.request.path_params["name"])
        last = await asyncio.to_thread(self._records.last_runs, [agent.name])
        return JSONResponse(shown_agent(agent, last.get(agent.name)))

    async def runs(self, asked: Asked) -> Response:
        try:
            limit = max(1, min(MOST_RUNS, int(asked.request.query_params.get("limit", "50"))))
        except ValueError as error:
            raise BadRequest("limit must be a number.") from error
        agent = asked.request.query_params.get("agent", "")
        runs = await asyncio.to_thread(self._records.latest, agent, limit)
        return JSONResponse({"runs": [shown_run(run) for run in runs]})

    async def run(self, asked: Asked) -> Response:
        run = await asyncio.to_thread(self._records.run, asked.request.path_params["run"])
        steps = await asyncio.to_thread(self._records.steps, run.id)
        return JSONResponse(shown_run(run) | {"steps": [shown_step(step) for step in steps]})

    async def store(self, asked: Asked) -> Response:
        name: str = asked.request.path_params["name"]
        manifest = await _body(asked.request)
        with self._audit.recording("agent:change", asked.principal, target=name, trace=asked.trace) as record:
            answer = await self._relay("PUT", f"/agents/{quote(name, safe='')}", manifest)
            return _noted(record, answer, "stored")

    async def remove(self, asked: Asked) -> Response:
        name: str = asked.request.path_params["name"]
        with self._audit.recording("agent:change", asked.principal, target=name, trace=asked.trace) as record:
            return _noted(record, await self._relay("DELETE", f"/agents/{quote(name, safe='')}"), "removed")

    async def cancel(self, asked: Asked) -> Response:
        run: str = asked.request.path_params["run"]
        with self._audit.recording("run:cancel", asked.principal, target=run, trace=asked.trace) as record:
            return _noted(record, await self._relay("POST", f"/runs/{quote(run, safe='')}/cancel"))

    async def _relay(self, method: str, path: str, content: bytes = b"") -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        try:
            async with httpx.AsyncClient(transport=transport, timeout=RELAY_SECONDS) as client:
                return await client.request(method, f"http://agents{path}", content=content)
        except httpx.HTTPError as error:
            raise Unavailable(
                "The agents worker cannot be reached.", hint="`entrepot status` shows its state."
            ) from error


def _noted(record: Recording, answer: httpx.Response, done: str = "") -> Response:
    """The worker's answer, with what it means in the record."""
    if answer.is_success:
        record.outcome, record.detail = "ok", done
    else:
        record.outcome = str(_problem(answer.content).get("code") or f"http-{answer.status_code}")
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


def _problem(content: bytes) -> dict[str, object]:
    try:
        return mapping(orjson.loads(content))
    except orjson.JSONDecodeError:
        return {}


async def _body(request: Request) -> bytes:
    """The whole body. Raises `TooLarge`, and `BadRequest` when the caller left before its end."""
    collected = bytearray()
    try:
        async for part in request.stream():
            collected += part
            if len(collected) > LARGEST_MANIFEST:
                raise TooLarge(f"A manifest is at most {LARGEST_MANIFEST} bytes.")
    except ClientDisconnect as error:
        raise BadRequest("The request ended before its body did.") from error
    return bytes(collected)


def _admitted(
    handler: Handler, context: Context, method: str, operation: str
) -> Callable[[Request], Awaitable[Response]]:
    """The handler behind admission, with errors as problems."""
    action = "admin:read" if method == "GET" else "admin:write"

    async def serve(request: Request) -> Response:
        trace = tracing.follow(request.headers.get("traceparent")).id
        try:
            principal = request.scope.get("principal")
            if not isinstance(principal, Principal):
                raise Unauthenticated("This needs a key or a signed-in person.")
            admit(context.admission, context.audit, principal, action, operation=operation, trace=trace)
            return await handler(Asked(request, principal, trace))
        except HubError as error:
            return problem(error, trace)

    return serve


part = AgentsPart()
