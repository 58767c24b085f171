"""Token buckets, one per key, in memory: how often something may happen, with short bursts allowed.

Keys are what the caller chooses (a principal's subject, a server). Nothing here waits: it lets through or raises.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hub.errors import TooMany
from hub.ids import Clock

MOST_KEYS = 100_000
"""Buckets kept; about 200 bytes each. The one unused for longest goes first, and comes back full."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often: `per_second` on average, `burst` at once. Zero per second means no limit."""

    per_second: float
    burst: float

    @property
    def unlimited(self) -> bool:
        """Whether this never refuses."""
        return self.per_second <= 0


UNLIMITED = Rate(0.0, 0.0)


@dataclass(slots=True)
class Bucket:
    """What is left for one key, and when that was true (seconds)."""

    tokens: float
    at: float

    def take(self, rate: Rate, moment: float, cost: float) -> float:
        """Take `cost` tokens; 0 when they were there, else the seconds until they will be."""
        # A clock that was set back must not drain the bucket.
        self.tokens = min(rate.burst, self.tokens + max(0.0, moment - self.at) * rate.per_second)
        self.at = moment
        if self.tokens >= cost:
            self.tokens -= cost
            return 0.0
        return (cost - self.tokens) / rate.per_second


class Limits:
    """The buckets of one worker. Limits are therefore per worker until counters are shared."""

    def __init__(self, rate: Rate, clock: Clock, most_keys: int = MOST_KEYS) -> None:
        self._rate = rate
        self._clock = clock
        self._most = most_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str, cost: float = 1.0) -> None:
        """Let one thing happen for `key`. Raises `TooMany` with the seconds to wait; a refusal costs nothing."""
        rate = self._rate
        if rate.unlimited:
            return
        moment = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(rate.burst, moment)
        else:
            self._buckets.move_to_end(key)
        wait = bucket.take(rate, moment, cost)
        if wait:
            raise TooMany(
                "Too many calls in a short time.",
                retry_after=round(wait, 3),
                hint=f"At most {rate.per_second:g} a second on average are let through for one caller.",
            )
