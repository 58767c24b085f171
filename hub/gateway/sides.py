"""Which side of each roll-out a request is on, and how the server does there.

A request is given the snapshot of its side at the start; everything after that reads lists, names and servers from it
as from any other. Where no roll-out is under way this costs one look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from time import perf_counter

from hub.catalog import canary
from hub.catalog.publisher import Snapshots
from hub.catalog.snapshot import Server, Snapshot, Target
from hub.catalog.variants import variant
from hub.errors import UpstreamError
from hub.gateway.calls import Call, Emit, Outcome, Relay
from hub.identity.principal import Principal
from hub.telemetry.figures import Figures

CALLERS_FAULT = frozenset({"error -32602", "error -32600", "error -32021"})
"""Answers of a server that say that the request was wrong: no failure of its version."""


class Sides:
    """The snapshots of this worker, by side."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._of: Snapshot | None = None
        self._made: dict[frozenset[str], Snapshot] = {}

    def snapshot(
        self, principal: Principal, client: Mapping[str, object], headers: Sequence[tuple[bytes, bytes]]
    ) -> Snapshot:
        """The snapshot in force for this caller. `client` is what it says of itself (clientInfo)."""
        current = self._snapshots.current
        if not current.canaries:
            return current
        name = client.get("name")
        told = name if isinstance(name, str) else ""
        chosen = frozenset(
            server for server, one in current.canaries.items() if canary.takes(one, principal, told, headers, server)
        )
        if not chosen:
            return current
        if self._of is not current:
            self._of, self._made = current, {}
        made = self._made.get(chosen)
        if made is None:
            made = self._made[chosen] = variant(current, chosen)
        return made


class Watched:
    """Around the relay: counts the calls of servers that have a roll-out, and lets those of all others by."""

    def __init__(self, relay: Relay, figures: Figures) -> None:
        self._relay = relay
        self._figures = figures

    def send(self, call: Call, server: Server, target: Target, emit: Emit) -> Awaitable[Outcome]:
        """The server's answer. No coroutine of its own where there is nothing to count."""
        if not server.track:
            return self._relay.send(call, server, target, emit)
        return self._counted(call, server, target, emit)

    async def _counted(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        began = perf_counter()
        failed = False
        try:
            outcome = await self._relay.send(call, server, target, emit)
            failed = outcome.verdict.startswith(("error", "tool-error")) and outcome.verdict not in CALLERS_FAULT
            return outcome
        except UpstreamError:
            failed = True
            raise
        finally:
            # The caller's leaving or fault says nothing of the server, but for the time that it took.
            self._figures.record(server.place, perf_counter() - began, failed=failed)
