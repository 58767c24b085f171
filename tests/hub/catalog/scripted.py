"""Scripted servers, a scripted runner and a whole catalog on a real database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson

from hub.audit.recorder import Audit
from hub.catalog.publisher import Snapshots
from hub.catalog.runner_client import RunnerClient
from hub.catalog.service import Catalog
from hub.db import migrate
from hub.db.engine import Database
from hub.errors import UpstreamDown
from hub.identity.principal import LOCAL_ADMINISTRATOR
from hub.upstream.address import Address, Era, Facts, Kind, Survey, Wanted
from hub.vault.keyring import Keyring

ADMIN = LOCAL_ADMINISTRATOR


def tool(name: str, **more: Any) -> bytes:
    """A tool's definition."""
    return orjson.dumps({"name": name, "description": f"Does {name}.", "inputSchema": {"type": "object"}} | more)


def offering(*tools: bytes, eras: tuple[Era, ...] = ("modern",), **kinds: tuple[bytes, ...]) -> Survey:
    """A survey of a server that offers these in each era."""
    facts: dict[Era, Facts] = {
        era: Facts({"tools": {}}, {"name": "scripted", "version": "1"}, "Be kind.") for era in eras
    }
    definitions: dict[tuple[Era, Kind], tuple[bytes, ...]] = {(era, "tool"): tools for era in eras}
    for era in eras:
        for kind, bodies in kinds.items():
            definitions[era, kind] = bodies  # pyright: ignore[reportArgumentType] - the tests name kinds
    return Survey(facts, definitions)


@dataclass
class Gate:
    """A look that waits: `reached` once it has its answer, until `open`."""

    reached: anyio.Event = field(default_factory=anyio.Event)
    open: anyio.Event = field(default_factory=anyio.Event)


@dataclass
class World:
    """What stands around the catalog: servers by URL, and the runner's children."""

    servers: dict[str, Survey] = field(default_factory=dict[str, Survey])
    looks: list[Address] = field(default_factory=list[Address])
    children: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    stdio: Survey = field(default_factory=lambda: offering(tool("hello")))
    told: int = 0
    runner_requests: list[str] = field(default_factory=list[str])
    runner_is_away: bool = False
    refused: set[str] = field(default_factory=set[str])
    """Children that the runner does not take."""
    gates: dict[str, Gate] = field(default_factory=dict[str, "Gate"])
    """Looks that wait, by URL."""

    def hold(self, url: str) -> Gate:
        """Have the next look at a URL take long: it has its answer, and waits."""
        gate = self.gates[url] = Gate()
        return gate

    async def look(self, address: Address, wanted: Wanted) -> Survey:
        """Answer like `hub.upstream.probe.survey`."""
        self.looks.append(address)
        answer = self._answer(address)
        gate = self.gates.pop(address.url, None)
        if gate is not None:
            gate.reached.set()
            await gate.open.wait()
        if isinstance(answer, UpstreamDown):
            raise answer
        return answer

    def _answer(self, address: Address) -> Survey | UpstreamDown:
        if address.url.startswith("http://runner/"):
            name = address.url.split("/")[4]
            return self.stdio if name in self.children else UpstreamDown(f"There is no child {name}.")
        if address.url not in self.servers:
            return UpstreamDown(f"{address.url} does not answer.")
        return self.servers[address.url]

    async def announce(self) -> None:
        """Count how often the others were told."""
        self.told += 1

    def runner(self, request: httpx.Request) -> httpx.Response:
        """Answer like the runner's socket."""
        if self.runner_is_away:
            raise httpx.ConnectError("nobody listens")
        self.runner_requests.append(f"{request.method} {request.url.path}")
        parts = request.url.path.strip("/").split("/")
        if request.method == "GET":
            return httpx.Response(200, json={"children": [{"name": name, "wanted": 1} for name in self.children]})
        name = parts[1]
        if parts[-1] == "replicas" or request.method == "DELETE":
            if name not in self.children:
                return httpx.Response(404, json={"detail": "no such child"})
            if request.method == "DELETE":
                del self.children[name]
                return httpx.Response(204)
            self.children[name]["replicas"] = orjson.loads(request.content)["replicas"]
            return httpx.Response(200, json=self.children[name])
        if name in self.refused:
            return httpx.Response(422, json={"detail": f"{name} is not to my taste"})
        self.children[name] = orjson.loads(request.content)
        return httpx.Response(200, json={})


@dataclass
class Stage:
    """A catalog and all that it was made of."""

    world: World
    database: Database
    snapshots: Snapshots
    catalog: Catalog
    audit: Audit
    keyring: Keyring
    runner: RunnerClient

    def another_worker(self) -> tuple[Catalog, Snapshots]:
        """A second catalog on the same database."""
        snapshots = Snapshots()
        return _catalog(self.world, self.database, snapshots, self.runner, self.keyring, self.audit), snapshots


def _catalog(
    world: World, database: Database, snapshots: Snapshots, runner: RunnerClient, keyring: Keyring, audit: Audit
) -> Catalog:
    return Catalog(
        database,
        world.look,
        snapshots,
        runner,
        keyring,
        audit,
        package_folder=Path(database.engine.url.database or "").parent / "packages",
        announce=world.announce,
    )


@asynccontextmanager
async def stage(folder: Path) -> AsyncGenerator[Stage]:
    """A catalog in an empty home."""
    database = Database(f"sqlite:///{folder / 'hub.db'}")
    migrate.upgrade(database, migrate.HUB)
    world, snapshots, keyring, audit = World(), Snapshots(), Keyring(database), Audit(folder / "audit", "test")
    keyring.load()
    runner = RunnerClient(folder / "runner.sock", transport=httpx.MockTransport(world.runner))
    catalog = _catalog(world, database, snapshots, runner, keyring, audit)
    await catalog.load()
    try:
        yield Stage(world, database, snapshots, catalog, audit, keyring, runner)
    finally:
        await runner.close()
        audit.close()
        database.close()
