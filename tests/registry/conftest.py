"""The pages in front of a scripted hub, and a browser's side of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from hub.audit.recorder import Audit
from hub.inprocess import InProcess
from hub.settings import Settings
from registry.part import part
from tests.support.admin import ScriptedHub, ScriptedSessions


@dataclass(frozen=True)
class Handed:
    """What the hub hands to the part."""

    settings: Settings
    api: InProcess
    sessions: ScriptedSessions
    audit: Audit


@pytest.fixture
def scripted() -> ScriptedHub:
    """The hub behind the pages."""
    return ScriptedHub()


@pytest.fixture
def sessions() -> ScriptedSessions:
    """Who is signed in."""
    return ScriptedSessions()


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    """Where signing in and out is recorded."""
    audit = Audit(tmp_path / "audit", "hub-0")
    yield audit
    audit.close()


@pytest.fixture
def pages(tmp_path: Path, scripted: ScriptedHub, sessions: ScriptedSessions, audit: Audit) -> Starlette:
    """The registry, mounted as the hub mounts it."""
    handed = Handed(Settings(home=tmp_path), InProcess(scripted.app()), sessions, audit)
    return Starlette(routes=part.routes(handed))


@pytest.fixture
async def browser(pages: Starlette, sessions: ScriptedSessions) -> AsyncGenerator[httpx.AsyncClient]:
    """A signed-in browser without script, that stays where a redirect leads."""
    transport = httpx.ASGITransport(pages)
    cookies = {sessions.cookie.name: "signed-in"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4180", cookies=cookies) as client:
        yield client
