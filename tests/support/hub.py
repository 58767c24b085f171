"""A whole hub in this process and loop, on a port of its own: its real settings, database, catalog and faces."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import httpx
import httpx2
import orjson
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from hub.app import Hub
from hub.catalog.manifest import ServerSpec
from hub.db import migrate
from hub.db.engine import Database
from hub.identity.principal import LOCAL_ADMINISTRATOR
from hub.serving.connection import HttpConnection
from hub.settings import Settings
from tests.support.everything import Everything
from tests.support.upstreams import Recorded, free_socket, serving

META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

Era = Literal["modern", "legacy"]


@dataclass
class RunningHub:
    """A hub that serves at `url`. Everything opened through it is closed with it."""

    hub: Hub
    url: str
    http: httpx.AsyncClient
    token: str
    servers: AsyncExitStack

    async def register(self, name: str, url: str, era: Literal["auto", "modern", "legacy"] = "auto") -> dict[str, Any]:
        """Put a server into the catalog, as an administrator would."""
        return await self.hub.catalog.add(LOCAL_ADMINISTRATOR, ServerSpec(name=name, url=url, era=era))

    async def refresh(self, name: str) -> dict[str, Any]:
        """Have the hub look at a server again."""
        return await self.hub.catalog.refresh(LOCAL_ADMINISTRATOR, name)

    async def key(self, name: str, scopes: list[str] | None = None) -> str:
        """A new key's token."""
        return (await self.hub.keys.create(name, scopes))[1]

    async def everything(self, name: str = "everything", only: Literal["", "modern", "legacy"] = "") -> Behind:
        """A server with everything, started and registered under `name`."""
        server = Everything(name)
        recorded = Recorded(server.app(), only)
        base = await self.servers.enter_async_context(serving(recorded))
        await self.register(name, f"{base}/mcp")
        return Behind(server, recorded)

    @contextlib.asynccontextmanager
    async def connect(
        self, era: Era = "modern", path: str = "/mcp", token: str | None = None, **more: Any
    ) -> AsyncGenerator[Client]:
        """The official client, in one era."""
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30, verify=False) as http:
            transport = streamable_http_client(f"{self.url}{path}", http_client=http)
            async with Client(transport, mode="legacy" if era == "legacy" else MODERN, **more) as client:
                yield client

    async def modern(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        path: str = "/mcp",
        identifier: Any = 1,
        headers: dict[str, str] | None = None,
        meta: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> httpx.Response:
        """One modern POST by hand. A header of `headers` that is empty is left out."""
        message = modern_message(method, params, identifier, meta)
        told = modern_headers(method, params) | self.bearer(token) | (headers or {})
        told = {name: value for name, value in told.items() if value}
        return await self.http.post(path, content=orjson.dumps(message), headers=told)

    def bearer(self, token: str | None = None) -> dict[str, str]:
        """The header that says who calls."""
        return {"authorization": f"Bearer {self.token if token is None else token}"}

    async def session(
        self, path: str = "/mcp", token: str | None = None, capabilities: dict[str, Any] | None = None
    ) -> dict[str, str]:
        """The headers of a new legacy session, opened by hand."""
        headers = self.bearer(token) | {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities or {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await self.http.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return headers | {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}


@dataclass
class Behind:
    """A server behind the hub: what it is, and what it was asked."""

    server: Everything
    recorded: Recorded


def modern_message(
    method: str, params: dict[str, Any] | None = None, identifier: Any = 1, meta: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A request of 2026-07-28."""
    told: dict[str, Any] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    told |= meta or {}
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": (params or {}) | {"_meta": told}}


def modern_headers(method: str, params: dict[str, Any] | None = None) -> dict[str, str]:
    """The headers that go with it."""
    name = (params or {}).get(NAMED.get(method, ""), "")
    return {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
        "mcp-name": name if isinstance(name, str) else "",
    }


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """The messages of an answer, JSON or event stream."""
    if answer.headers["content-type"].startswith("application/json"):
        return [answer.json()]
    return [orjson.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


@cache
def _empty_database() -> bytes:
    """A database at this version: migrated once, copied for every hub after that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        database = Database(f"sqlite:///{path}")
        migrate.upgrade(database, migrate.HUB)
        database.close()
        return path.read_bytes()


@contextlib.asynccontextmanager
async def running_hub(home: Path, **more: Any) -> AsyncGenerator[RunningHub]:
    """A hub with an empty catalog, and a key that may call everything."""
    listener = free_socket()
    settings = Settings.model_validate({"home": home, "port": listener.getsockname()[1], "bare": True} | more)
    for folder in (settings.home, settings.run_dir, settings.logs_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (settings.home / "entrepot.db").exists():
        (settings.home / "entrepot.db").write_bytes(await anyio.to_thread.run_sync(_empty_database))
    hub = Hub(settings)
    # Servers outlive the hub that holds connections to them, so that nobody waits for anybody at the end.
    async with AsyncExitStack() as servers, AsyncExitStack() as stack:
        await stack.enter_async_context(hub.running())
        url = await stack.enter_async_context(serving(hub.app, listener, lifespan=False, http=HttpConnection))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30, verify=False))
        _, token = await hub.keys.create("tester", ["call"])
        yield RunningHub(hub, url, http, token, servers)
