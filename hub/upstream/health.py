"""Active health: one check of a server, and the count of passes and fails that makes a verdict.

A check costs a server next to nothing: the modern era is asked what it speaks, the legacy eras are pinged within one
session that is kept for it (checks that open sessions and leave them are a known way to bring a server down).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from hub.errors import HubError, UpstreamDown, UpstreamError
from hub.upstream import jsonrpc
from hub.upstream.address import Address, Era
from hub.upstream.connection import Upstream
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import VERSIONS, LegacySession
from hub.upstream.legacy_sse import SseSession
from hub.upstream.modern_http import ModernChannel, envelope
from hub.upstream.terms import ActiveHealth, PassiveHealth, Terms

HELLO: dict[str, Any] = {
    "protocolVersion": VERSIONS[0],
    "capabilities": {},
    "clientInfo": {"name": "entrepot", "version": "0.1.0"},
}


class Verdict:
    """Healthy until so many checks in a row failed, ill until so many passed."""

    def __init__(self, terms: ActiveHealth, clock: Callable[[], float]) -> None:
        self._terms = terms
        self._clock = clock
        self._passes = 0
        self._fails = 0
        self.healthy = True
        self.reason = ""
        """What the last failed check met; empty after one that passed."""
        self.ill_since = 0.0
        self.reachable = True
        """Whether the last failed check at least reached it."""

    def passed(self) -> bool:
        """A check passed. Whether that made it healthy again."""
        self._passes, self._fails, self.reachable = self._passes + 1, 0, True
        if self.healthy:
            self.reason = ""
            return False
        if self._passes < self._terms.passes:
            return False
        self.healthy, self.reason = True, ""
        return True

    def failed(self, reason: str, *, reachable: bool = True) -> bool:
        """A check failed. Whether that made it ill."""
        self._fails, self._passes, self.reason, self.reachable = self._fails + 1, 0, reason, reachable
        if not self.healthy or self._fails < self._terms.fails:
            return False
        self.healthy, self.ill_since = False, self._clock()
        return True


class Checkup:
    """Checks one server. It has connections, a breaker and a session of its own, so it costs callers nothing."""

    def __init__(self, name: str, address: Address, digest: str, eras: frozenset[Era], terms: Terms) -> None:
        self.digest = digest
        self.terms = terms.active
        self.verdict = Verdict(terms.active, asyncio.get_running_loop().time)
        self._eras = eras
        # Every check is to reach the server, however many failed before it: no breaker in between.
        looking = replace(terms.looking(terms.active.timeout), passive=PassiveHealth(failures=2**31))
        self._upstream = Upstream(name, address, digest, looking)
        self._session: LegacySession | SseSession | None = None

    async def once(self) -> tuple[bool, str, bool]:
        """One check: whether it passed, else what was met, and whether the server was reached."""
        seconds = self.terms.timeout
        try:
            async with asyncio.timeout(seconds):
                await (self._discover() if "modern" in self._eras else self._ping())
        except TimeoutError:
            self._session = None
            return False, f"It does not answer a check within {seconds:g} s", True
        except UpstreamDown as error:
            return False, error.message, False
        except (HubError, jsonrpc.NotJson) as error:
            return False, str(error), True
        return True, "", True

    async def close(self) -> None:
        """Give back its session and its connections."""
        session, self._session = self._session, None
        try:
            if session is not None:
                await session.close()
        finally:
            self._upstream.close()

    async def _discover(self) -> None:
        body = jsonrpc.request(b'"check"', "server/discover", {"_meta": orjson.dumps(envelope({}))})
        channel = ModernChannel(self._upstream, bounds=self._upstream.listing)
        incoming = await channel.request(b'"check"', "server/discover", body, _ignore)
        if incoming.status >= 500:
            raise UpstreamError(f"It answers a check with HTTP {incoming.status}")

    async def _ping(self) -> None:
        if self._session is None:
            transport = SseSession if self._upstream.address.transport == "sse" else LegacySession
            self._session = await transport.open(self._upstream, orjson.dumps(HELLO), _ignore)
            # The handshake was answered, which is all that a check wants to know.
            return
        try:
            await self._session.request(b'"check"', "ping", b'{"jsonrpc":"2.0","id":"check","method":"ping"}', _ignore)
        except HubError:
            # Forgotten, or broken off: the next check opens another.
            self._session = None
            raise


async def _ignore(_message: Message) -> None:
    """A check asks nothing that a server may answer with questions."""
