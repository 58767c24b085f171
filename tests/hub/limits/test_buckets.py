"""How often, how much at once, and for how many callers."""

from __future__ import annotations

import pytest

from hub.errors import TooMany
from hub.limits.buckets import UNLIMITED, Limits, Rate


class Clock:
    moment = 100.0

    def __call__(self) -> float:
        return self.moment


def test_a_burst_passes_and_the_next_call_is_told_how_long_to_wait() -> None:
    clock = Clock()
    limits = Limits(Rate(2, 3), clock)
    for _ in range(3):
        limits.take("a")
    with pytest.raises(TooMany) as refused:
        limits.take("a")
    assert refused.value.retry_after == 0.5
    limits.take("b")
    clock.moment += 0.5
    limits.take("a")


def test_a_refusal_costs_nothing_and_rest_never_fills_over_the_burst() -> None:
    clock = Clock()
    limits = Limits(Rate(1, 2), clock)
    limits.take("a", 2)
    for _ in range(5):
        with pytest.raises(TooMany):
            limits.take("a")
    clock.moment += 1
    limits.take("a")
    clock.moment += 1000
    limits.take("a", 2)
    with pytest.raises(TooMany):
        limits.take("a")


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    clock = Clock()
    limits = Limits(Rate(1, 2), clock)
    limits.take("a")
    clock.moment -= 50
    limits.take("a")


def test_memory_is_bounded_and_the_least_used_key_is_forgotten_first() -> None:
    limits = Limits(Rate(1, 1), Clock(), most_keys=2)
    limits.take("a")
    limits.take("b")
    limits.take("c")
    with pytest.raises(TooMany):
        limits.take("c")
    limits.take("a")


def test_no_rate_means_no_limit() -> None:
    limits = Limits(UNLIMITED, Clock())
    for _ in range(1000):
        limits.take("a")
