"""The model face as a whole, on a database of its own, with the real admission and audit."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

import hub.catalog.models  # noqa: F401  # pyright: ignore[reportUnusedImport]  the keyring keeps its key there
from hub.audit.recorder import Audit
from hub.db.base import HubTable
from hub.db.engine import Database
from hub.identity.principal import Principal
from hub.inference.openai_api import build
from hub.inference.registry import Models
from hub.inference.relay import Bounds, Relay
from hub.inference.usage import Usage
from hub.policy.admission import Admission
from hub.vault.keyring import Keyring

CALLER = Principal("key:1", "tester", "service", frozenset({"models"}))


@dataclass
class Face:
    """What a test holds in its hands."""

    models: Models
    relay: Relay
    usage: Usage
    metrics: CollectorRegistry
    database: Database
    keyring: Keyring
    app: ASGIApp
    folder: Path
    principal: Principal | None = CALLER

    def client(self) -> httpx.AsyncClient:
        """A caller of the face."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://hub")

    async def post(self, path: str, body: Any) -> httpx.Response:
        """One request."""
        async with self.client() as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content)

    async def get(self, path: str) -> httpx.Response:
        """One request."""
        async with self.client() as client:
            return await client.get(path)

    def records(self) -> list[dict[str, Any]]:
        """What the audit wrote of model uses."""
        lines = [line for file in sorted((self.folder / "audit").iterdir()) for line in file.read_text().splitlines()]
        return [record for record in map(json.loads, lines) if record["event"] == "model:use"]


@asynccontextmanager
async def a_face(folder: Path, bounds: Bounds | None = None, **limits: int) -> AsyncGenerator[Face]:
    """A face without models."""
    database = Database(f"sqlite:///{folder / 'hub.db'}")
    HubTable.metadata.create_all(database.engine)
    keyring = Keyring(database)
    keyring.load()
    relay = Relay(bounds or Bounds(connect_seconds=2, answer_seconds=20, silence_seconds=20))
    models = Models(database, keyring, relay)
    await models.load()
    metrics = CollectorRegistry()
    usage = Usage(metrics)
    audit = Audit(folder / "audit", "test")
    routes = build(models, relay, decide=Admission().decide, audit=audit, usage=usage, **limits)
    inner = Starlette(routes=routes)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if face.principal is not None:
            scope["principal"] = face.principal
        await inner(scope, receive, send)

    face = Face(models, relay, usage, metrics, database, keyring, app, folder)
    try:
        yield face
    finally:
        await relay.close()
        audit.close()
        database.close()


def events(response: httpx.Response) -> list[Any]:
    """The data of each event; the closing one as the string `[DONE]`."""
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [value if value == "[DONE]" else json.loads(value) for value in data]
