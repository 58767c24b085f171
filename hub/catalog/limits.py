"""Limits as they are declared, and in the frozen form that a snapshot carries. What they count is `hub.limits`.

A selector that is left away does not matter; `*` gives each principal, team, server or tool a count of its own; a
name or a pattern counts all that it matches together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from hub.catalog.strict import Name, Short, Strict

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
PERIODS = ("minute", "hour", "day", "month")
SHORT = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day"}

MOST_CALLS = 10**12

Selector = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Amount = Annotated[str, StringConstraints(max_length=40)]

_AMOUNT = re.compile(r"(?P<count>\d{1,13}(\.\d{1,6})?)\s*/\s*(?P<per>[a-z]+)")


class LimitSpec(Strict):
    """One limit: on whom, and at least one of a rate, a quota and a number of calls at once."""

    name: Name
    principal: Selector = Field(default="", description="Subject or name of a key; `*`: each by itself.")
    team: Selector = Field(default="", description="A team; `*`: each by itself.")
    server: Selector = Field(default="", description="A server; `*`: each by itself.")
    tool: Selector = Field(default="", description="The server's own name of a tool; `*`: each by itself.")
    rate: Amount = Field(default="", description="`10/second`, `600/minute`: refilled all the time.")
    burst: int | None = Field(default=None, ge=1, le=MOST_CALLS, description="Calls at once; else those of a second.")
    quota: Amount = Field(default="", description="`1000/day`, also minute, hour, month: counted anew in each (UTC).")
    concurrent: int | None = Field(default=None, ge=1, le=1_000_000, description="Calls under way at the same time.")
    contact: Short = Field(default="", description="Who can raise it, as the refused are told.")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not (self.rate or self.quota or self.concurrent):
            raise ValueError("give at least one of rate, quota and concurrent")
        if self.burst is not None and not self.rate:
            raise ValueError("burst belongs to a rate")
        if self.rate:
            _amount(self.rate, tuple(SECONDS), "a rate is written as 10/second, 600/minute, 5000/hour or 9000/day")
        if self.quota:
            count, _ = _amount(self.quota, PERIODS, "a quota is written as 1000/day (or minute, hour, month)")
            if count != int(count):
                raise ValueError("a quota is a whole number of calls")
        return self

    def compiled(self) -> Limit:
        """As the snapshot carries it."""
        per_second, burst, quota, period = 0.0, 0.0, 0, ""
        if self.rate:
            count, per = _amount(self.rate, tuple(SECONDS), "")
            per_second = count / SECONDS[per]
            burst = float(self.burst or max(1, round(per_second)))
        if self.quota:
            count, period = _amount(self.quota, PERIODS, "")
            quota = int(count)
        return Limit(
            self.name,
            self.principal,
            self.team,
            self.server,
            self.tool,
            per_second,
            burst,
            quota,
            period,
            self.concurrent or 0,
            self.rate,
            self.quota,
            self.contact,
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as the snapshot carries it: selectors, and numbers where it has that bound (else 0)."""

    name: str
    principal: str
    team: str
    server: str
    tool: str
    per_second: float
    burst: float
    quota: int
    period: str
    concurrent: int
    rate_text: str = ""
    quota_text: str = ""
    contact: str = ""


def shown(spec: LimitSpec) -> dict[str, Any]:
    """A limit as the admin API shows it."""
    return spec.model_dump(mode="json")


def _amount(text: str, allowed: tuple[str, ...], complaint: str) -> tuple[float, str]:
    match = _AMOUNT.fullmatch(text.strip().lower())
    per = SHORT.get(match["per"], match["per"]) if match else ""
    if match is None or per not in allowed or not 0 < float(match["count"]) <= MOST_CALLS:
        raise ValueError(complaint)
    return float(match["count"]), per
