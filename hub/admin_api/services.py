"""What the admin API stands on: handed over whole by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hub.audit.recorder import Audit
from hub.catalog.rollouts import Rollouts
from hub.catalog.runner_client import RunnerClient
from hub.catalog.service import Catalog
from hub.db.engine import Database
from hub.identity.api_keys import ApiKeys
from hub.identity.sessions import Sessions
from hub.ids import Clock, system_clock
from hub.inference.registry import Models
from hub.limits.limits import Limits
from hub.policy.admission import Admission
from hub.settings import Settings


async def _nothing_known(_name: str) -> list[dict[str, Any]]:
    """Nobody calls servers here."""
    return []


async def _tell_nobody() -> None:
    """A hub of one worker has nobody to tell."""


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of every handler. `announce` returns when every other live worker has loaded what changed."""

    settings: Settings
    database: Database
    admission: Admission
    audit: Audit
    catalog: Catalog
    runner: RunnerClient
    keys: ApiKeys
    sessions: Sessions
    models: Models
    limits: Limits
    rollouts: Rollouts
    announce: Callable[[], Awaitable[None]] = _tell_nobody
    vitals: Callable[[str], Awaitable[list[dict[str, Any]]]] = _nothing_known
    """How a server does towards each worker."""
    clock: Clock = system_clock
    started: float = field(default_factory=system_clock)
    """When this process began to serve, in seconds since the epoch."""
