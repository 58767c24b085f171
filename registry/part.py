"""The registry as a part of the hub: what it is handed, and the routes that it mounts at the root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from starlette.routing import Mount, Route

from hub.audit.recorder import Audit
from hub.settings import Settings
from registry.hubface import Api
from registry.routes import routes_of
from registry.screens import Screens, Sessions


class Context(Protocol):
    """What the hub hands to a part when it is mounted; further fields are not looked at."""

    @property
    def settings(self) -> Settings:
        """Static settings; the pages show the hub's URL."""
        ...

    @property
    def api(self) -> Api:
        """The hub, in process."""
        ...

    @property
    def sessions(self) -> Sessions:
        """Browser sessions."""
        ...

    @property
    def audit(self) -> Audit:
        """Where signing in and out is recorded."""
        ...


@dataclass(frozen=True, slots=True)
class Registry:
    """The part; found by the hub under the entry point `hub.parts`."""

    name: str = "registry"
    history: None = None
    """No tables of its own."""

    def internal_servers(self, settings: Settings) -> tuple[()]:
        """No server of its own."""
        return ()

    def routes(self, context: Context) -> list[Route | Mount]:
        """All pages and static files, at the root."""
        return routes_of(Screens(context.settings, context.api, context.sessions, context.audit))


part = Registry()
