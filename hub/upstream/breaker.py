"""A circuit breaker whose state is derived from the clock: closed, open for a while, then half-open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FAILURES_TO_OPEN = 5
"""Failures in a row; one hiccup must not make the catalog flap."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds a breaker stays open: doubled at each failed trial, reset by the first success."""


class Breaker:
    """Counts failures to *reach* a server. Answers, also bad ones, are successes here."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._trying = False

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """What a call would meet now."""
        if self._failures < FAILURES_TO_OPEN:
            return "closed"
        return "open" if self._clock() < self._until or self._trying else "half-open"

    def admits(self) -> bool:
        """Whether a call may try. In the half-open state one call may, at a time."""
        if self._failures < FAILURES_TO_OPEN:
            return True
        if self._trying or self._clock() < self._until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The server was reached."""
        self._failures, self._pause, self._trying = 0, FIRST_PAUSE, False

    def failed(self) -> None:
        """The server was not reached."""
        self._failures += 1
        self._trying = False
        if self._failures >= FAILURES_TO_OPEN:
            self._until = self._clock() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def abandoned(self) -> None:
        """A trial ended without a verdict (the caller went away)."""
        self._trying = False
