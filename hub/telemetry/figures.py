"""How the two sides of a roll-out do: calls, failures and latencies of the last minutes, of all workers together.

Only servers with a roll-out under way are counted here, second by second; each worker tells the others what it met.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.telemetry.metrics import SECONDS

KEPT_SECONDS = 3600
"""The longest window that a roll-out may be judged by."""

MOST_PLACES = 1_000
_BINS = len(SECONDS) + 1


@dataclass(frozen=True, slots=True)
class Summary:
    """One version within a window. Latencies are in seconds, from a histogram; `rate` is the per cent that failed."""

    calls: int
    errors: int
    p50: float
    p95: float

    @property
    def rate(self) -> float:
        """Per cent of the calls that failed."""
        return 100 * self.errors / self.calls if self.calls else 0.0

    def shown(self) -> dict[str, Any]:
        """As the admin API has it."""
        return {
            "calls": self.calls,
            "errors": self.errors,
            "error_rate": round(self.rate, 2),
            "p50": round(self.p50, 4),
            "p95": round(self.p95, 4),
        }


class _Slice:
    """What one second brought."""

    __slots__ = ("bins", "calls", "errors", "second")

    def __init__(self, second: int) -> None:
        self.second = second
        self.calls = 0
        self.errors = 0
        self.bins = [0] * _BINS


class Figures:
    """The figures of one worker, what the others told included."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slices: dict[str, deque[_Slice]] = {}
        self._untold: dict[str, list[Any]] = {}

    def record(self, place: str, seconds: float, *, failed: bool) -> None:
        """Count one call of ours."""
        bins = bisect_left(SECONDS, seconds)
        self._add(place, 1, int(failed), ((bins, 1),))
        untold = self._untold.get(place)
        if untold is None:
            untold = self._untold[place] = [0, 0, [0] * _BINS]
        untold[0] += 1
        untold[1] += failed
        untold[2][bins] += 1

    def untold(self) -> dict[str, list[Any]]:
        """What the other workers have not heard yet."""
        told, self._untold = self._untold, {}
        return told

    def heard(self, told: Mapping[str, Sequence[Any]]) -> None:
        """Count what another worker met."""
        for place, (calls, errors, bins) in list(told.items())[:MOST_PLACES]:
            pairs = [(number, int(count)) for number, count in enumerate(bins[:_BINS]) if count]
            self._add(str(place), int(calls), int(errors), pairs)

    def summary(self, place: str, window: float) -> Summary:
        """A version within the last `window` seconds."""
        oldest = self._clock() - window
        calls, errors, bins = 0, 0, [0] * _BINS
        for one in self._slices.get(place, ()):
            if one.second >= oldest:
                calls += one.calls
                errors += one.errors
                bins = [have + more for have, more in zip(bins, one.bins, strict=True)]
        return Summary(calls, errors, _quantile(bins, 0.5), _quantile(bins, 0.95))

    def keep(self, places: set[str]) -> None:
        """Forget every other version."""
        for place in [place for place in self._slices if place not in places]:
            del self._slices[place]
            self._untold.pop(place, None)

    def _add(self, place: str, calls: int, errors: int, bins: Sequence[tuple[int, int]]) -> None:
        slices = self._slices.get(place)
        if slices is None:
            slices = self._slices[place] = deque()
        second = int(self._clock())
        if not slices or slices[-1].second != second:
            slices.append(_Slice(second))
            while slices[0].second < second - KEPT_SECONDS:
                slices.popleft()
        last = slices[-1]
        last.calls += calls
        last.errors += errors
        for number, count in bins:
            last.bins[number] += count


def _quantile(bins: Sequence[int], share: float) -> float:
    """A quantile out of the histogram, straight between the bounds of its bin."""
    total = sum(bins)
    if not total:
        return 0.0
    wanted, seen = share * total, 0
    for number, count in enumerate(bins):
        if count and seen + count >= wanted:
            low = SECONDS[number - 1] if number else 0.0
            high = SECONDS[number] if number < len(SECONDS) else SECONDS[-1]
            return low + (high - low) * (wanted - seen) / count
        seen += count
    return SECONDS[-1]
