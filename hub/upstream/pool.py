"""All upstreams of this process: one set per registration, drained when the registration is changed or removed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from hub.upstream.address import Address
from hub.upstream.connection import Upstream, Vitals
from hub.upstream.replicas import Replicas
from hub.upstream.terms import Terms

TICK_SECONDS = 0.25
"""Between looks for calls that are past their total deadline; that deadline is counted in minutes."""


class Pool:
    """Lends upstreams by registration digest. Owned by the app; closed with it."""

    def __init__(self, terms: Terms | None = None) -> None:
        """`terms` hold for addresses that bring none."""
        self._terms = terms or Terms()
        self._lent: dict[str, Replicas] = {}
        self._draining: dict[Replicas, float] = {}

    def upstream(self, name: str, address: Address, digest: str, at: str = "") -> Upstream:
        """An upstream of a registration: its only one, the replica at the URL `at`, or the least loaded."""
        found = self._lent.get(digest)
        if found is None:
            found = self._lent[digest] = Replicas(name, address, digest, address.terms or self._terms)
        return found.only or found.pick(at)

    def first(self, name: str, address: Address, digest: str) -> Upstream:
        """The first upstream of a registration, for what all of them share: terms and places."""
        found = self._lent.get(digest)
        return found.all[0] if found is not None else self.upstream(name, address, digest)

    def known(self, name: str) -> Upstream | None:
        """The first upstream of a server that was called already."""
        return next((found.all[0] for found in reversed(self._lent.values()) if found.name == name), None)

    def replicas(self, digest: str) -> tuple[Upstream, ...]:
        """All upstreams of a registration that was called already."""
        found = self._lent.get(digest)
        return tuple(found.all) if found else ()

    def vitals(self, name: str) -> Vitals | None:
        """How a server does towards this worker; None while nobody called it."""
        known = self.known(name)
        return known.vitals() if known else None

    async def watch(self) -> None:
        """Cancel calls that are past their total deadline, and close what has drained, for ever."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for found in (*self._lent.values(), *self._draining):
                found.lanes.expire(found.terms.deadlines.total)
            if self._draining:
                self._close_drained()

    def keep(self, digests: Collection[str]) -> None:
        """Give up every other registration: no new call goes there, and those under way come to their end."""
        until = asyncio.get_running_loop().time()
        for digest in [digest for digest in self._lent if digest not in digests]:
            gone = self._lent.pop(digest)
            self._draining[gone] = until + gone.terms.deadlines.total

    @property
    def draining(self) -> int:
        """Registrations that are given up and still have something under way."""
        return len(self._draining)

    def drop(self, name: str) -> None:
        """Forget a server at once, and what is under way with it."""
        for digest, found in list(self._lent.items()):
            if found.name == name:
                del self._lent[digest]
                found.close()

    def close(self) -> None:
        """Close every connection."""
        for found in (*self._lent.values(), *self._draining):
            found.close()
        self._lent.clear()
        self._draining.clear()

    def _close_drained(self) -> None:
        moment = asyncio.get_running_loop().time()
        for found, latest in list(self._draining.items()):
            # Places too: a call between two rounds of questions has no exchange under way.
            if moment >= latest or not (found.busy or found.lanes.running or found.lanes.queued):
                found.close()
                del self._draining[found]
