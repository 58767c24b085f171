"""The breaker: opens after failures in a row, lets one trial through, and never counts an answer as a failure."""

from __future__ import annotations

from hub.upstream.breaker import FAILURES_TO_OPEN, FIRST_PAUSE, LONGEST_PAUSE, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.admits()
        breaker.failed()
    return breaker


def test_it_opens_only_after_failures_in_a_row() -> None:
    breaker = Breaker(Clock())
    for _ in range(3 * FAILURES_TO_OPEN):
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"
    assert opened(Clock()).state == "open"


def test_one_trial_at_a_time_decides() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert not breaker.admits()
    clock.now = FIRST_PAUSE
    assert [breaker.admits(), breaker.admits()] == [True, False]
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.admits()


def test_a_trial_that_its_caller_left_lets_the_next_one_try() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = FIRST_PAUSE
    assert breaker.admits()
    breaker.abandoned()
    assert breaker.admits()


def test_pauses_double_up_to_a_bound() -> None:
    clock = Clock()
    breaker = opened(clock)
    pauses: list[float] = []
    for _ in range(8):
        start = clock.now
        while not breaker.admits():
            clock.now += 0.5
        pauses.append(clock.now - start)
        breaker.failed()
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
