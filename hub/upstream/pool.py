"""All upstreams of this process: one per server, replaced when its registration changes."""

from __future__ import annotations

from hub.upstream.address import Address
from hub.upstream.connection import Upstream
from hub.upstream.http1 import Bounds


class Pool:
    """Lends upstreams by registration digest. Owned by the app; closed with it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._upstreams: dict[str, Upstream] = {}

    def upstream(self, name: str, address: Address, digest: str) -> Upstream:
        """The upstream of a server; a changed registration gets a fresh one."""
        known = self._upstreams.get(name)
        if known is not None and known.digest == digest:
            return known
        if known is not None:
            known.close()
        fresh = self._upstreams[name] = Upstream(name, address, digest, self._bounds)
        return fresh

    def reason(self, name: str) -> str:
        """Why the last exchange with a server failed; empty when it did not."""
        known = self._upstreams.get(name)
        return known.reason if known else ""

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
