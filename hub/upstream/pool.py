"""All upstreams of this process: one per server, replaced when its registration changes."""

from __future__ import annotations

import asyncio

from hub.upstream.address import Address
from hub.upstream.connection import Upstream, Vitals
from hub.upstream.terms import Terms

TICK_SECONDS = 0.25
"""Between looks for calls that are past their total deadline; that deadline is counted in minutes."""


class Pool:
    """Lends upstreams by registration digest. Owned by the app; closed with it."""

    def __init__(self, terms: Terms | None = None) -> None:
        """`terms` hold for addresses that bring none."""
        self._terms = terms or Terms()
        self._upstreams: dict[str, Upstream] = {}

    def upstream(self, name: str, address: Address, digest: str) -> Upstream:
        """The upstream of a server; a changed registration gets a fresh one."""
        known = self._upstreams.get(name)
        if known is not None and known.digest == digest:
            return known
        if known is not None:
            known.close()
        fresh = self._upstreams[name] = Upstream(name, address, digest, address.terms or self._terms)
        return fresh

    def known(self, name: str) -> Upstream | None:
        """The upstream of a server that was called already."""
        return self._upstreams.get(name)

    def vitals(self, name: str) -> Vitals | None:
        """How a server does towards this worker; None while nobody called it."""
        known = self._upstreams.get(name)
        return known.vitals() if known else None

    async def watch(self) -> None:
        """Cancel calls that are past their total deadline, for ever. One task per worker runs this."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for known in self._upstreams.values():
                known.lanes.expire(known.terms.deadlines.total)

    def drop(self, name: str) -> None:
        """Forget a server that was removed."""
        known = self._upstreams.pop(name, None)
        if known is not None:
            known.close()

    def close(self) -> None:
        """Close every connection."""
        for known in self._upstreams.values():
            known.close()
        self._upstreams.clear()
