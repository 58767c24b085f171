"""The composition root: every part made in order, handed its collaborators and mounted. The only module that knows all.

Read `Hub.__init__` from top to bottom: that is the hub. Order of what a request meets: `Authentication`, then
`/mcp` (raw ASGI) or the routes of the REST faces.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import anyio.to_thread
import httpx
import orjson
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.admin_api import router
from hub.admin_api.services import Services
from hub.audit.indexer import Indexer
from hub.audit.recorder import Audit
from hub.audit.refusals import Refusals
from hub.background import kept
from hub.bundled import Bundled, InternalServer
from hub.catalog.checks import Checks
from hub.catalog.finder import Finder
from hub.catalog.publisher import Snapshots
from hub.catalog.rollouts import Rollouts
from hub.catalog.runner_client import RunnerClient
from hub.catalog.service import Catalog
from hub.catalog.vectors import Engine, Vectors
from hub.catalog.watcher import Changes, Watcher
from hub.db.engine import Database
from hub.db.history import HUB, History, pending
from hub.errors import HubError, Unavailable
from hub.gateway.attempts import Attempts
from hub.gateway.bridge import Bridge
from hub.gateway.calls import Calls
from hub.gateway.code.describing import DescribeFunctions
from hub.gateway.code.namespace import Namespaces
from hub.gateway.code.run_code import RunCode
from hub.gateway.code.sandbox import Bounds as ProgramBounds
from hub.gateway.code.sandbox import Sandbox
from hub.gateway.endpoint import McpEndpoint
from hub.gateway.finding import CallTool, DescribeTool, FindTools
from hub.gateway.follows import Follows
from hub.gateway.forward import Forwarder, taken_over
from hub.gateway.handles import Handles
from hub.gateway.heartbeats import Heartbeats
from hub.gateway.legacy import LegacyFace
from hub.gateway.listing import Listing
from hub.gateway.modern import ModernFace
from hub.gateway.own import OwnTool, OwnTools
from hub.gateway.own_tasks import OwnTasks
from hub.gateway.seals import Seals
from hub.gateway.sessions import Sessions as LegacySessions
from hub.gateway.sides import Sides, Watched
from hub.gateway.subscriptions import Subscriptions
from hub.gateway.task_records import TaskRecords
from hub.gateway.tasks import Tasks
from hub.guardrails.chain import Guardrails
from hub.guardrails.schema import ArgumentSchema
from hub.guardrails.size import Size
from hub.identity.api_keys import ApiKeys
from hub.identity.middleware import Authentication, LocalAdministrator
from hub.identity.sessions import Sessions
from hub.ids import system_clock
from hub.inference import openai_api
from hub.inference.registry import Models
from hub.inference.relay import Relay
from hub.inference.usage import Usage
from hub.inprocess import InProcess
from hub.limits.leases import Leases
from hub.limits.limits import Limits
from hub.limits.link import Here, Linked
from hub.policy.admission import Admission
from hub.settings import Settings
from hub.telemetry.figures import Figures
from hub.telemetry.health import Health
from hub.telemetry.metrics import Metrics
from hub.upstream.connection import Vitals
from hub.upstream.pool import Pool
from hub.upstream.probe import survey
from hub.upstream.terms import Deadlines, Terms
from hub.vault.keyring import Keyring

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 2.0
"""How long a change waits for another worker to serve it; one that does not answer is restarting."""

VITALS_SECONDS = 1.0
"""How long a person waits for what another worker has to say of a server."""

TABLES_SECONDS = 60.0
"""How long the other workers wait for the first to bring the tables to this version."""

LOOKS_AT_ONCE = 8
"""Servers that are looked at side by side."""

LOOKS_AT_ALL = 15
"""Every so many rounds all servers are looked at, also those that nobody calls."""

COORDINATOR_SECONDS = 3.0
"""How long a worker waits for the coordinator, which starts in a fifth of a second beside it."""

TELL_AFTER_SECONDS = 0.3
"""Where there are several workers: a client that is told of a change may ask any of them, so they are to have it first.
Each follows within a tenth of that."""

FIGURES_SECONDS = 1.0
"""Between two looks at how the versions that are tried out do."""

STALE_SECONDS = 2.0
"""Between looks at the stored revisions: the bound on how long a lost announcement can matter."""

REVISIT_SECONDS = 20.0
"""Between looks at servers that are not ready."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a part is handed when it is mounted."""

    settings: Settings
    api: InProcess
    sessions: Sessions
    database: Database
    admission: Admission
    audit: Audit


class Part(Protocol):
    """A product mounted on the hub, found under the entry point `hub.parts`."""

    @property
    def name(self) -> str:
        """How logs call it."""
        ...

    def routes(self, context: Any) -> Sequence[BaseRoute]:
        """What it mounts at the root."""
        ...

    @property
    def history(self) -> History | None:
        """The migrations of its own tables, if it has any."""
        ...

    def internal_servers(self, settings: Settings) -> Sequence[InternalServer]:
        """Servers of its own that belong into the catalog."""
        ...


class Hub:
    """One worker. `app` serves the network, `local` the admin socket, `internal` the other workers."""

    def __init__(self, settings: Settings, parts: Sequence[Part] = (), worker: int = 0) -> None:
        self.settings = settings
        self.worker = worker
        self.database = Database(settings.database)
        self.metrics = Metrics(CollectorRegistry())
        self.audit = Audit(settings.audit_dir, f"hub-{worker}")
        self.keyring = Keyring(self.database)
        self.keys = ApiKeys(self.database)
        self.sessions = Sessions(self.database, settings.url)
        self.admission = Admission()
        self.snapshots = Snapshots(TELL_AFTER_SECONDS if settings.workers > 1 else 0.0)
        self.runner = RunnerClient(settings.runner_socket)
        terms = _terms(settings)
        self.catalog = Catalog(
            self.database,
            partial(survey, terms=terms),
            self.snapshots,
            self.runner,
            self.keyring,
            self.audit,
            package_folder=settings.home / "packages",
            terms=terms,
            announce=self._announce,
        )
        self.figures = Figures(time.time)
        self.rollouts = Rollouts(self.catalog, self.figures, self.keyring, self.audit)
        self.model_relay = Relay()
        self.models = Models(self.database, self.keyring, self.model_relay)
        self.usage = Usage(self.metrics.registry)
        self.bundled = Bundled(
            settings,
            self.catalog,
            self.models,
            self.keys,
            self.runner,
            [server for part in parts for server in part.internal_servers(settings)],
            self._announce,
        )
        clock, socket = system_clock, settings.limits_socket
        self.link = Linked(socket, str(worker)) if settings.workers > 1 else Here(settings.quotas_file, clock)
        self.limits = Limits(Leases(self.link, clock, time.monotonic, settings.workers), self.metrics)
        self._terms = terms
        self._parts = parts
        self._started = False
        self.pool: Pool
        self.app: ASGIApp
        self.local: ASGIApp
        self.internal: ASGIApp

    def _assemble(self) -> None:
        """Everything that needs the running loop: connections and the faces over them."""
        self.pool = Pool(self._terms)
        seals = Seals(self.keyring)
        self.changes = Changes(self.snapshots, self._refresh)
        self.follows = Follows(self.snapshots, self.pool)
        self.bridge = Bridge(self.pool, seals, self.changes, self.follows, self.worker)
        self.metrics.resting.set_function(lambda: len(self.bridge.parks))
        self.checks = Checks(
            self.snapshots,
            self.pool,
            self._terms,
            state=self.catalog.state,
            mark=self.catalog.mark,
            look=self.catalog.look_again,
            children=None if self.worker else self.runner.children,
        )
        guardrails = Guardrails([Size(self.settings.max_result_bytes), ArgumentSchema()])
        relay = Watched(Attempts(self.bridge, self.pool), self.figures)
        sides = Sides(self.snapshots)
        calls = Calls(self.admission, self.limits, guardrails, self.audit, relay, self.metrics)
        self.vectors = Vectors(self.database, Engine(self.settings.runner_socket))
        self.finder = Finder(self.snapshots, self.vectors)
        looking = (FindTools(self.finder, self.admission), DescribeTool(self.admission))
        tools = (*looking, CallTool(calls, self.audit), *self._code_mode(calls, seals))
        own = OwnTools(tools, calls, self.admission, self.limits, guardrails, self.audit, self.metrics)
        listing = Listing(self.admission, Refusals(self.audit, "access:refused"), own, self.metrics)
        self.tasks = OwnTasks(
            TaskRecords(self.database),
            seals,
            self.worker,
            after_seconds=self.settings.task_after_seconds,
            ttl_seconds=self.settings.task_ttl_seconds,
        )
        tasks = Tasks(self.pool, seals, self.audit, self.tasks)
        subscriptions = Subscriptions(self.snapshots, listing, self.admission, self.follows, tasks)
        handles = Handles(self.keyring, self.worker)
        self.legacy_sessions = LegacySessions(asyncio.get_running_loop().time, handles)
        self.beats = Heartbeats(self.settings.keep_alive_seconds)
        modern = ModernFace(sides, listing, calls, own, subscriptions, tasks, self.bridge.parks, self.beats)
        legacy = LegacyFace(
            self.snapshots,
            sides,
            listing,
            calls,
            own,
            self.legacy_sessions,
            self.pool,
            self.audit,
            self.changes,
            self.beats,
        )
        self.forwarder = Forwarder(self.settings.run_dir, self.worker)
        mcp = McpEndpoint(modern, legacy, self.forwarder, self.settings.max_body_bytes)
        faces = _Faces(mcp, Starlette(routes=[]))
        context = Context(self.settings, InProcess(faces), self.sessions, self.database, self.admission, self.audit)
        faces.rest = Starlette(routes=self._routes(context))
        self.app = Authentication(faces, self.keys, self.sessions, self.settings, self.metrics, self.audit)
        self.local = LocalAdministrator(faces)
        reload = Starlette(
            routes=[
                Route("/reload", self._reloaded, methods=["POST"]),
                Route("/figures", self._heard_figures, methods=["POST"]),
                Route("/vitals", self._told_vitals),
            ]
        )
        self.internal = _Faces(taken_over(mcp), reload)

    def _code_mode(self, calls: Calls, seals: Seals) -> Sequence[OwnTool]:
        settings, namespaces = self.settings, Namespaces()
        bounds = ProgramBounds(
            processes=settings.code_processes,
            seconds=settings.code_cpu_seconds,
            memory_bytes=settings.code_memory_bytes,
            calls=settings.code_calls,
            output_bytes=settings.code_output_bytes,
        )
        self.sandbox = Sandbox(bounds)
        run_code = RunCode(
            calls,
            self.admission,
            self.sandbox,
            namespaces,
            seals,
            seconds=settings.code_seconds,
            parallel=settings.code_parallel_calls,
        )
        return (DescribeFunctions(self.admission, namespaces), run_code)

    def _routes(self, context: Context) -> list[BaseRoute]:
        health = Health({"catalog": self._missing}, self.metrics)
        services = Services(
            settings=self.settings,
            catalog=self.catalog,
            keys=self.keys,
            sessions=self.sessions,
            admission=self.admission,
            audit=self.audit,
            database=self.database,
            models=self.models,
            runner=self.runner,
            announce=self._announce,
            limits=self.limits,
            rollouts=self.rollouts,
            vitals=self._vitals,
        )
        routes: list[BaseRoute] = [*health.routes(), *router.build(services)]
        routes += openai_api.build(
            self.models,
            self.model_relay,
            decide=self.admission.decide,
            audit=self.audit,
            usage=self.usage,
            max_body_bytes=self.settings.max_body_bytes,
        )
        for part in self._parts:
            routes += part.routes(context)
        return [*routes, router.fallback()]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The life of this worker. Raises `Unavailable` when the tables are not at this program's version."""
        if await self._tables_pending():
            raise Unavailable(
                "The database is not at this program's version",
                hint="`entrepot up` and `entrepot migrate` bring it there.",
            )
        await anyio.to_thread.run_sync(self.keyring.load)
        if isinstance(self.link, Here):
            await anyio.to_thread.run_sync(self.link.load)
        await self.keys.load()
        await self.catalog.load()
        await self.models.load()
        self._assemble()
        self._started = True
        async with asyncio.TaskGroup() as group:
            loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
                ("snapshots", self._follow_snapshots),
                ("last use of keys", self.keys.flush_forever),
                ("tasks", self.tasks.run),
                ("index of tools", self.finder.run),
                ("total deadlines", self.pool.watch),
                ("signs of life", self.beats.run),
                ("health of servers", self.checks.run),
                ("idle sessions", partial(self.legacy_sessions.sweep_forever, self.snapshots, self.bridge.sweep)),
            ]
            loops.append(("leases of calls", self.limits.leases.run))
            if isinstance(self.link, Linked):
                leases = self.limits.leases
                loops.append(("coordinator", partial(self.link.run, leases.holdings, leases.recalled)))
            if self.settings.workers > 1:
                loops.append(("figures of roll-outs", self._tell_figures))
                loops.append(("changes of other workers", self._stay_current))
            if self.worker == 0:
                loops += [
                    ("audit index", Indexer(self.audit.folder, self.database).run_forever),
                    ("watch of servers", Watcher(self.snapshots, self.pool, self.changes).run),
                    ("look at servers", self._revisit),
                    ("judge of roll-outs", self._judge),
                    ("bundled parts", self.bundled.run),
                ]
            owned = [group.create_task(kept(name, work)) for name, work in loops]
            try:
                await self._coordinated()
                yield
            finally:
                for task in owned:
                    task.cancel()
                await self._close()

    async def _coordinated(self) -> None:
        """Wait a little for the coordinator: until it is met, only a cautious share of each limit can be spent."""
        if isinstance(self.link, Linked):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COORDINATOR_SECONDS):
                    await self.link.connected.wait()

    async def _tables_pending(self) -> bool:
        """Whether the tables are of another version; the first worker brings them here while the others wait."""
        patience = TABLES_SECONDS if self.worker else 0.0
        deadline = asyncio.get_running_loop().time() + patience
        while await anyio.to_thread.run_sync(pending, self.database, HUB):
            if asyncio.get_running_loop().time() >= deadline:
                return True
            await asyncio.sleep(0.2)
        return False

    async def _close(self) -> None:
        await self.changes.close()
        await self.tasks.close()
        await self.catalog.close()
        await self.legacy_sessions.close()
        await self.follows.close()
        await self.bridge.close()
        await self.sandbox.close()
        self.pool.close()
        self.vectors.close()
        self.forwarder.close()
        await self.model_relay.close()
        await self.runner.close()
        self.audit.close()
        if isinstance(self.link, Here):
            self.link.close()
        self.database.close()

    def _missing(self) -> str:
        return "" if self._started else "starting"

    async def _refresh(self, name: str) -> None:
        canary = self.catalog.canary_of(name)
        for one in (name, *([canary.name] if canary else [])):
            try:
                await self.catalog.look_again(one)
            except HubError as error:
                log.warning("server %s could not be looked at: %s", one, error.message)

    async def _revisit(self) -> None:
        """Look again at servers that were never seen or are down, so that recovery needs nobody."""
        await self.bundled.settled.wait()
        for turn in itertools.count():
            await self.catalog.reconcile(self.bundled.children())
            everyone = turn % LOOKS_AT_ALL == LOOKS_AT_ALL - 1
            due = [row["name"] for row in self.catalog.list() if row["enabled"] and (everyone or _unwell(row))]
            limit = asyncio.Semaphore(LOOKS_AT_ONCE)

            async def look(name: str, limit: asyncio.Semaphore = limit) -> None:
                async with limit:
                    await self._refresh(name)

            # Side by side: a server that hangs until its deadline keeps no other from being looked at.
            await asyncio.gather(*(look(name) for name in due))
            await asyncio.sleep(REVISIT_SECONDS)

    async def _stay_current(self) -> None:
        """Load what another worker stored and could not tell us of, as when one of the two was restarting."""
        while True:
            await asyncio.sleep(STALE_SECONDS)
            if await self.keys.stale():
                await self.keys.load()
            if await self.catalog.stale():
                await self.catalog.load()
                await self.models.load()

    async def _follow_snapshots(self) -> None:
        """Let go of servers that are gone or were changed: what is under way with them ends in peace."""
        known: set[str] = set()
        async for _ in self.snapshots.subscribe():
            current = self.snapshots.current
            self.pool.keep(current.digests())
            present = set(current.servers)
            for name in known - present:
                self.metrics.forget(name)
            known = present

    async def reload(self) -> None:
        """Serve what another worker stored. Every run makes and revokes a key, so only what changed is read."""
        if await self.keys.stale():
            await self.keys.load()
        if await self.catalog.stale():
            await self.catalog.load()
        await self.models.load()

    async def _judge(self) -> None:
        """Roll back what does worse than it may."""
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            await self.rollouts.judge()

    async def _tell_figures(self) -> None:
        """Tell the other workers how the versions that are tried out did here."""
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            told = self.figures.untold()
            if told:
                await asyncio.gather(*(_told(path, "figures", orjson.dumps(told)) for path in self._others()))

    async def _heard_figures(self, request: Request) -> Response:
        self.figures.heard(orjson.loads(await request.body()))
        return Response(status_code=204)

    def _others(self) -> list[str]:
        """The sockets of the other live workers."""
        own = f"worker-{self.worker}.sock"
        return [str(path) for path in self.settings.run_dir.glob("worker-*.sock") if path.name != own]

    async def _announce(self) -> None:
        """Have every other live worker serve the present state before the change is acknowledged."""
        await asyncio.gather(*(_told(path, "reload") for path in self._others()))

    async def _vitals(self, name: str) -> list[dict[str, Any]]:
        """How a server does towards each live worker: what they met, and what checks met where they are made."""
        told = await asyncio.gather(*(_vitals_of(path, name) for path in self._others()))
        return sorted((one for one in (self._own_vitals(name), *told) if one), key=lambda one: one["worker"])

    def _own_vitals(self, name: str) -> dict[str, Any]:
        met = self.pool.vitals(name) or Vitals()
        return {"worker": self.worker, **asdict(met), "check": self.checks.of(name)}

    async def _told_vitals(self, request: Request) -> Response:
        return JSONResponse(self._own_vitals(request.query_params.get("server", "")))

    async def _reloaded(self, _request: Any) -> Response:
        await self.reload()
        return Response(status_code=204)


def _unwell(row: dict[str, Any]) -> bool:
    return row["state"] in ("down", "new")


def _terms(settings: Settings) -> Terms:
    """On what terms a server is called whose declaration says nothing of it."""
    deadlines = Deadlines(
        settings.connect_seconds,
        settings.list_seconds,
        settings.call_seconds,
        settings.idle_seconds,
        settings.total_seconds,
    )
    return Terms(deadlines, answer_bytes=settings.max_result_bytes)


class _Faces:
    """`/mcp` goes straight to its endpoint; everything else through the routes."""

    def __init__(self, mcp: ASGIApp, rest: ASGIApp) -> None:
        self._mcp = mcp
        self.rest = rest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope.get("path", "")
        return (self._mcp if path == "/mcp" or path.startswith("/mcp/") else self.rest)(scope, receive, send)


async def _vitals_of(socket: str, name: str) -> dict[str, Any]:
    try:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), timeout=VITALS_SECONDS) as client:
            return (await client.get("http://worker/vitals", params={"server": name})).json()
    except (httpx.HTTPError, ValueError):
        # It is restarting, and knows nothing yet.
        return {}


async def _told(socket: str, what: str, body: bytes = b"") -> None:
    try:
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket), timeout=ANNOUNCE_SECONDS
        ) as client:
            await client.post(f"http://worker/{what}", content=body)
    except httpx.HTTPError:
        # A worker that is starting reads the present state by itself.
        return
