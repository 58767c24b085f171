"""What comes with the hub: its own servers, agents and local model, given to the runner and put into the catalog.

Runs in one worker after start, in the background, so that the hub serves at once. Every start gives each of them
a fresh service key in a 0600 file; nothing secret is in their environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hub.catalog.runner_client import RunnerClient
from hub.catalog.service import Catalog
from hub.errors import HubError
from hub.identity.api_keys import ApiKeys
from hub.inference.registry import Models
from hub.runner.weights import DEFAULT, WEIGHTS
from hub.settings import Settings
from hub.upstream.address import Address

log = logging.getLogger(__name__)

ENGINES = frozenset({"local-chat", "local-embedder"})

RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""How long a bundled server may take until its first answer before that counts as a failure."""


@dataclass(frozen=True, slots=True)
class BundledServer:
    """One server of ours: its command is `python -m servers.NAME`."""

    name: str
    title: str
    description: str
    scopes: frozenset[str] = frozenset()
    environment: dict[str, str] = field(default_factory=dict[str, str])


def bundled_servers(settings: Settings) -> tuple[BundledServer, ...]:
    """The four, with what each is told of this installation."""
    return (
        BundledServer(
            "logs",
            "Logs",
            "Search, tail and count the log lines of the hub, its servers and its agents.",
            frozenset({"admin:read"}),
            {"ENTREPOT_LOGS_DIR": str(settings.logs_dir)},
        ),
        BundledServer(
            "scaling",
            "Scaling",
            "See and change how many replicas of each server run.",
            frozenset({"admin"}),
        ),
        BundledServer("databases", "Databases", "List, describe and query SQLite databases, read-only."),
        BundledServer("rag", "Documents", "Search documents in English and Chinese, with citations."),
    )


class InternalServer(Protocol):
    """A server that a part brings, reached over a local socket."""

    @property
    def name(self) -> str:
        """Its name in the catalog, and that of its token file."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def description(self) -> str:
        """For people."""
        ...

    @property
    def url(self) -> str:
        """Its MCP endpoint."""
        ...

    @property
    def socket(self) -> Path:
        """The local socket in front of it."""
        ...


class Bundled:
    """Sets up what comes with the hub. `run` is its owner task's body."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        models: Models,
        keys: ApiKeys,
        runner: RunnerClient,
        internal: Sequence[InternalServer],
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._models = models
        self._keys = keys
        self._runner = runner
        self._internal = internal
        self._announce = announce
        self.settled = asyncio.Event()
        """Set when everything was put down, or is not wanted."""

    async def run(self) -> None:
        """Have everything in place; what fails is retried while the hub serves the rest."""
        if self._settings.bare:
            self.settled.set()
            return
        await self._wait_for_runner()
        # Models first: they are only put down here, and an agent that is asked early needs one.
        await self._try(self._engines)
        await asyncio.gather(self._try(self._parts), self._try(self._servers))
        self.settled.set()

    def children(self) -> frozenset[str]:
        """The runner's children that are ours."""
        if self._settings.bare:
            return frozenset()
        return frozenset({server.name for server in bundled_servers(self._settings)} | ENGINES)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except HubError as error:
            log.error("bundled parts are incomplete: %s", error.message)

    async def _wait_for_runner(self) -> None:
        while True:
            try:
                await self._runner.children()
                return
            except HubError:
                await asyncio.sleep(RETRY_SECONDS)

    async def _engines(self) -> None:
        socket = str(self._settings.runner_socket)
        # Put down once: a model that was removed or changed stays so.
        marker = self._settings.home / "state" / "models-put-down"
        put_down = marker.read_text().split() if marker.exists() else []
        for name, engine, model in (
            ("local-embedder", {"kind": "embedder"}, _embedder(socket)),
            (
                "local-chat",
                {"kind": "llama", "model": self._settings.local_model},
                _chat(socket, self._settings.local_model),
            ),
        ):
            try:
                await self._runner.engine(name, engine)
            except HubError as error:
                # Its model is registered all the same, so that its state can say what is missing.
                log.warning("engine %s: %s", name, error.message)
            served = str(model.pop("name"))
            if served not in put_down:
                await self._models.put(served, model)
                put_down.append(served)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(" ".join(put_down))
        await self._announce()

    async def _servers(self) -> None:
        servers = bundled_servers(self._settings)
        for server in servers:
            # Into the catalog first: a person's own server of this name refuses, and keeps its child.
            address = Address(f"http://runner/s/{server.name}/mcp", str(self._settings.runner_socket))
            await self._catalog.register_internal(
                server.name, address, title=server.title, description=server.description
            )
            await self._runner.want(server.name, await self._child(server))
        await asyncio.gather(*(self._until_ready(server.name) for server in servers))

    async def _parts(self) -> None:
        for server in self._internal:
            # It makes keys for its runs, never with more than it has or its caller has.
            await self.token(server.name, frozenset({"call", "models", "admin"}))
            address = Address(server.url, str(server.socket))
            await self._catalog.register_internal(
                server.name, address, title=server.title, description=server.description
            )
            await self._until_ready(server.name)

    async def _child(self, server: BundledServer) -> dict[str, Any]:
        state = self._settings.home / "state" / server.name
        await asyncio.to_thread(state.mkdir, parents=True, exist_ok=True)
        environment = {"ENTREPOT_STATE_DIR": str(state), "ENTREPOT_URL": self._settings.url, **server.environment}
        if server.scopes:
            environment["ENTREPOT_TOKEN_FILE"] = str(await self.token(server.name, server.scopes))
        return {
            "command": [sys.executable, "-m", f"servers.{server.name}"],
            "env": environment,
            "sandbox": "trusted",
            "kind": "http",
            "start": "lazy",
        }

    async def token(self, name: str, scopes: frozenset[str]) -> Path:
        """A fresh service key in `run/NAME.token`; the one of the start before is revoked."""
        for key in await self._keys.list():
            if key.name == f"bundled {name}" and key.revoked is None:
                await self._keys.revoke(key.id)
        _, token = await self._keys.create(f"bundled {name}", scopes)
        path = self._settings.run_dir / f"{name}.token"
        await asyncio.to_thread(_write_secret, path, token)
        return path

    async def _until_ready(self, name: str) -> None:
        """Look at a server until it answers."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                await self._catalog.look_again(name)
                if self._catalog.show(name)["state"] in ("ready", "degraded"):
                    return
            except HubError as error:
                log.info("server %s is not ready yet: %s", name, error.message)
            if loop.time() > deadline:
                log.error("server %s did not become ready", name)
                return
            await asyncio.sleep(RETRY_SECONDS)


def _embedder(socket: str) -> dict[str, Any]:
    return {
        "name": "local-embedder",
        "kind": "embedding",
        "description": "Universal Sentence Encoder, multilingual, 512 dimensions; computed on this machine.",
        "url": "http://runner/s/local-embedder/v1",
        "socket": socket,
        "internal": True,
        "facts": {"dimensions": 512},
    }


def _chat(socket: str, own: str) -> dict[str, Any]:
    weights = WEIGHTS[DEFAULT]
    embedded = "SmolLM2-135M-Instruct on this machine: proves the plumbing, not intelligence."
    facts = {"context": weights.context, "licence": weights.licence, "sha256": weights.file_sha256}
    return {
        "name": "local",
        "kind": "chat",
        "description": f"{Path(own).name} on this machine." if own else embedded,
        "url": "http://runner/s/local-chat/v1",
        "socket": socket,
        "native_tools": False,
        "internal": True,
        "facts": {} if own else facts,
    }


def _write_secret(path: Path, secret: str) -> None:
    """Replace the file whole, never readable by others."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    fresh.replace(path)
