"""One registration's addresses: which of them an exchange goes to, and how the whole is given up without a failed call.

The least loaded goes first among those that answer. What a server keeps between requests (a session, a task, a call
that rests) is only at the replica that began it, so whoever continues such a thing names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hub.upstream.address import Address
from hub.upstream.connection import Upstream
from hub.upstream.lanes import Lanes
from hub.upstream.terms import Terms


class Replicas:
    """The upstreams of one registration. Owned by the pool."""

    def __init__(self, name: str, address: Address, digest: str, terms: Terms) -> None:
        self.name = name
        self.digest = digest
        self.terms = terms
        first = Upstream(name, address, digest, terms)
        self.lanes: Lanes = first.lanes
        others: list[Upstream] = []
        for url in address.replicas:
            other = Upstream(name, replace(address, url=url, replicas=()), digest, terms)
            # Places are the server's, however many addresses it has.
            other.lanes = self.lanes
            others.append(other)
        self.all: Sequence[Upstream] = (first, *others)
        self.only = None if others else first
        if others:
            for upstream in self.all:
                upstream.has_siblings = True
        self._turn = 0

    def pick(self, at: str = "") -> Upstream:
        """The replica at the URL `at` while it is one of them; else the least loaded of those that answer."""
        if at:
            for upstream in self.all:
                if upstream.address.url == at:
                    return upstream
        self._turn = (self._turn + 1) % len(self.all)
        in_turn = (*self.all[self._turn :], *self.all[: self._turn])
        return min(in_turn, key=_burden)

    @property
    def busy(self) -> int:
        """Requests under way at all of them."""
        return sum(upstream.load for upstream in self.all)

    def close(self) -> None:
        """Drop all connections."""
        for upstream in self.all:
            upstream.close()


def _burden(upstream: Upstream) -> tuple[int, int]:
    breaker = upstream.breaker
    # One that failed its last caller comes after all that did not, one that is left alone after those.
    ill = 2 if breaker.state == "open" else 1 if breaker.failures else 0
    return ill, upstream.load
