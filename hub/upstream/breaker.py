"""A circuit breaker whose state is derived from the clock: closed, open for a while, then half-open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from hub.upstream.terms import PassiveHealth

_DEFAULT = PassiveHealth()
FAILURES_TO_OPEN = _DEFAULT.failures
FIRST_PAUSE, LONGEST_PAUSE = _DEFAULT.pause, _DEFAULT.longest_pause

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Counts failures to *reach* a server. Answers, also bad ones, are successes here. Nothing is ever used up."""

    __slots__ = ("_clock", "_failures", "_pause", "_terms", "_trying", "_until", "opened", "reason", "since")

    def __init__(self, clock: Callable[[], float], terms: PassiveHealth = _DEFAULT) -> None:
        self._clock = clock
        self._terms = terms
        self._failures = 0
        self._pause = terms.pause
        self._until = 0.0
        self._trying = False
        self.reason = ""
        """The last failure, also while closed; empty after a success."""
        self.since = 0.0
        """The clock at the first failure since the last success."""
        self.opened = 0
        """How often it went from closed to open."""

    @property
    def state(self) -> State:
        """What a call would meet now."""
        if self._failures < self._terms.failures:
            return "closed"
        return "open" if self._clock() < self._until or self._trying else "half-open"

    @property
    def failures(self) -> int:
        """In a row, up to now."""
        return self._failures

    @property
    def retry_after(self) -> float:
        """Seconds until a call may try again."""
        return max(0.0, self._until - self._clock()) if self._failures >= self._terms.failures else 0.0

    def admits(self) -> bool:
        """Whether a call may try. In the half-open state one call may, at a time."""
        if self._failures < self._terms.failures:
            return True
        if self._trying or self._clock() < self._until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The server was reached."""
        if self._failures or self._trying:
            self._failures, self._pause, self._trying, self.reason = 0, self._terms.pause, False, ""

    def failed(self, reason: str = "") -> None:
        """The server was not reached."""
        now = self._clock()
        if not self._failures:
            self.since = now
        was_closed = self._failures < self._terms.failures
        was_trial = self._trying
        self._failures += 1
        self._trying = False
        self.reason = reason
        if self._failures < self._terms.failures:
            return
        self.opened += was_closed
        if was_closed or was_trial or now >= self._until:
            # Calls that were under way when it opened say nothing new: only a trial makes the pause longer.
            self._until = now + self._pause
            self._pause = min(self._pause * 2, self._terms.longest_pause)

    def abandoned(self) -> None:
        """A trial ended without a verdict (the caller went away)."""
        self._trying = False

    def retry_now(self) -> None:
        """There is reason to believe that the server is back: the next call may try it."""
        self._until = 0.0
