"""Which limits a call meets, and the words of a refusal.

Worked out once per caller and target, kept until the limits change: a call that meets none pays for two look-ups.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from hub.catalog.limits import Limit
from hub.catalog.snapshot import Snapshot, Target
from hub.errors import TooMany
from hub.identity.principal import Principal
from hub.limits.bounds import Bound, Quota, Rate, Slots
from hub.limits.leases import Counter, Exhausted, Leases
from hub.telemetry.metrics import Metrics

MOST_KEPT = 50_000
"""Pairs of caller and target whose counters are kept worked out; about 300 bytes each."""

SEPARATOR = "\x1f"
"""Between the parts of a counter's key: no name holds it."""


@dataclass(frozen=True, slots=True)
class Use:
    """One counter of a limit: whose, of which kind, and what is used of it."""

    whose: str
    kind: str
    used: float


class Taken:
    """One call's places in the counters it meets: taken on the way in, slots freed on the way out."""

    __slots__ = ("_counters", "_limits")

    def __init__(self, limits: Limits, counters: tuple[Counter, ...]) -> None:
        self._limits = limits
        self._counters = counters

    async def __aenter__(self) -> None:
        """Raises `TooMany`; then nothing was taken."""
        await self._limits.take(self._counters)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.leases.release(self._counters)


class Limits:
    """The limits of one worker."""

    def __init__(self, leases: Leases, metrics: Metrics | None = None) -> None:
        self.leases = leases
        self._metrics = metrics
        self._rules: tuple[Limit, ...] = ()
        self._met: dict[tuple[str, str, str, str], tuple[Counter, ...]] = {}

    def on(self, snapshot: Snapshot, principal: Principal, target: Target) -> Taken | None:
        """What a call has to pass; None when no limit is on it."""
        rules = snapshot.limits
        if not rules:
            return None
        if rules is not self._rules:
            self._rules, self._met = rules, {}
        key = (principal.subject, target.server, target.name, target.kind)
        counters = self._met.get(key)
        if counters is None:
            if len(self._met) >= MOST_KEPT:
                self._met.clear()
            counters = self._met[key] = tuple(self._counters(principal, target))
        return Taken(self, counters) if counters else None

    async def take(self, counters: tuple[Counter, ...]) -> None:
        """One call of each counter, or of none. Raises `TooMany`."""
        if self.leases.take(counters):
            return
        try:
            await self.leases.obtain(counters)
        except Exhausted as exhausted:
            counter = exhausted.counter
            if self._metrics:
                self._metrics.limited.labels(counter.limit.name).inc()
            raise refusal(counter, exhausted.wait) from None

    async def usage(self, name: str) -> list[Use]:
        """Who used most of a limit. Raises `LinkDown`."""
        found = await self.leases.usage(name + SEPARATOR)
        return [Use(whose, kind, used) for key, used in found for _, kind, whose in [key.split(SEPARATOR, 2)]]

    def _counters(self, principal: Principal, target: Target) -> Iterator[Counter]:
        for limit in self._rules:
            for whose in _owners(limit, principal, target):
                for kind, bound in _bounds(limit):
                    key = SEPARATOR.join((limit.name, kind, whose))
                    yield self.leases.counter(key, bound, limit, whose)


def refusal(counter: Counter, wait: float) -> TooMany:
    """The error of a call over a limit: which, whose, how much, until when, and who can raise it."""
    limit, bound = counter.limit, counter.bound
    whose = counter.whose or "all callers together"
    text, flag = _told(limit, bound)
    raiser = limit.contact or "An administrator of this hub"
    return TooMany(
        f"The limit {limit.name!r} of {whose} is reached: {text}.",
        retry_after=round(wait, 3),
        hint=f"Try again in {_length(wait)}. {raiser} can raise it: entrepot limits set {limit.name} {flag}",
        data={"limit": limit.name, "whose": whose, "bound": text, "raisedBy": raiser},
    )


def _told(limit: Limit, bound: Bound) -> tuple[str, str]:
    if isinstance(bound, Rate):
        return f"{limit.rate_text} calls, at most {limit.burst:g} at once", "--rate …"
    if isinstance(bound, Quota):
        return f"{limit.quota_text} calls", "--quota …"
    return f"{bound.count} at the same time", "--concurrent …"


def _length(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{math.ceil(whole / 60)} min" if whole < 7_200 else f"{math.ceil(whole / 3_600)} h"


def _bounds(limit: Limit) -> Iterator[tuple[str, Bound]]:
    if limit.per_second:
        yield "rate", Rate(limit.per_second, limit.burst)
    if limit.quota:
        yield "quota", Quota(limit.quota, limit.period)
    if limit.concurrent:
        yield "slots", Slots(limit.concurrent)


def _owners(limit: Limit, principal: Principal, target: Target) -> Iterator[str]:
    """Whose counters a call counts in: none when the limit is not on it, one per team where it counts those."""
    if limit.tool and target.kind != "tool":
        return
    # A run counts as the one it acts for: nobody gets more by asking an agent.
    subject = principal.acts_for
    parts: list[str] = []
    for word, selector, names in (
        ("", limit.principal, (subject, principal.name)),
        ("server", limit.server, (target.server,)),
        ("tool", limit.tool, (target.name, target.exposed)),
    ):
        if not selector:
            continue
        if not any(_matches(name, selector) for name in names):
            return
        named = names[0] if selector == "*" else selector
        if word == "tool" and selector == "*" and limit.server != "*":
            named = f"{target.server}/{named}"
        parts.append(f"{word} {named}".strip())
    if not limit.team:
        yield " · ".join(parts)
    elif limit.team == "*":
        for team in sorted(principal.teams):
            yield " · ".join([f"team {team}", *parts])
    elif any(_matches(team, limit.team) for team in principal.teams):
        yield " · ".join([f"team {limit.team}", *parts])


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)
