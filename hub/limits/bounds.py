"""What a counter may be bounded by: a rate, a quota of a calendar period, a number of calls at once."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

PERIOD_SECONDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` calls on average, `burst` at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Quota:
    """`count` calls in each minute, hour, day or month of UTC."""

    count: int
    period: str


@dataclass(frozen=True, slots=True)
class Slots:
    """`count` calls at the same time."""

    count: int


Bound = Rate | Quota | Slots


def written(bound: Bound) -> list[Any]:
    """A bound as it travels to the coordinator."""
    if isinstance(bound, Rate):
        return ["rate", bound.per_second, bound.burst]
    if isinstance(bound, Quota):
        return ["quota", bound.count, bound.period]
    return ["slots", bound.count]


def read(told: Sequence[Any]) -> Bound:
    """A bound again. Raises `ValueError` for what is none."""
    match tuple(told):
        case ("rate", float() | int() as per_second, float() | int() as burst) if per_second > 0 and burst >= 1:
            return Rate(float(per_second), float(burst))
        case ("quota", int() as count, "minute" | "hour" | "day" | "month" as period) if count > 0:
            return Quota(count, period)
        case ("slots", int() as count) if count > 0:
            return Slots(count)
        case _:
            raise ValueError(f"not a bound: {told!r}")


def term(period: str, moment: float) -> tuple[int, int]:
    """Beginning and end of the period that `moment` is in, in seconds since the epoch."""
    if period in PERIOD_SECONDS:
        begin = int(moment) // PERIOD_SECONDS[period] * PERIOD_SECONDS[period]
        return begin, begin + PERIOD_SECONDS[period]
    at = datetime.fromtimestamp(moment, UTC)
    begin = int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp())
    return begin, begin + calendar.monthrange(at.year, at.month)[1] * 86_400
