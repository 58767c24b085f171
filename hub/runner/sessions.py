"""Legacy sessions of one stdio process: who opened them, what they can do, what waits for them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hub.ids import new_id
from hub.runner.exchange import Outbox

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424, least first."""


@dataclass(eq=False)
class Session:
    """One client's session. Many of them share a process that was initialized once."""

    principal: str
    capabilities: dict[str, Any]
    outbox: Outbox
    id: str = field(default_factory=lambda: new_id(bits=160))
    level: int = 0
    """Index into LEVELS of the least serious line it wants."""
    chose_level: bool = False
    subscriptions: set[str] = field(default_factory=set[str])
    streams: int = 0
    """Open HTTP answers, the GET stream included."""
    listening: bool = False
    """Whether the GET stream is open."""
    last_used: float = field(default_factory=time.monotonic)

    def can(self, method: str, params: dict[str, Any]) -> bool:
        """Whether the client declared that it answers this request of a server."""
        match method:
            case "roots/list":
                return "roots" in self.capabilities
            case "sampling/createMessage":
                return "sampling" in self.capabilities
            case "elicitation/create":
                offered = self.capabilities.get("elicitation")
                return isinstance(offered, dict) and (params.get("mode") != "url" or "url" in offered)
            case _:
                return False

    def wants(self, level: Any) -> bool:
        """Whether a log line of that level is for this session."""
        return level not in LEVELS or LEVELS.index(level) >= self.level

    def subscribed(self, uri: Any) -> bool:
        """Whether the session subscribed to the resource, or to one that contains it."""
        return isinstance(uri, str) and any(uri.startswith(known) for known in self.subscriptions)
