"""The one truth about counters: never above a bound, nothing lost that was not used."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from hub.catalog.limits import LimitSpec
from hub.limits.accounts import Accounts, QuotaAccount
from hub.limits.bounds import Quota, Rate, Slots, read, term, written
from hub.limits.ledger import Ledger

JULY = 1_784_000_000.0
"""A moment in July 2026."""


def accounts() -> Accounts:
    return Accounts(lambda _key, _account: None)


@pytest.mark.parametrize("seed", range(8))
def test_a_saturated_rate_lets_through_exactly_what_it_says_however_workers_ask(seed: int) -> None:
    chance = random.Random(seed)
    bound = Rate(chance.choice([3.0, 50.0, 1000.0]), float(chance.choice([1, 10, 500])))
    books, moment, granted, workers = accounts(), JULY, 0, 3
    while moment < JULY + 60:
        moment += min(chance.random() * 0.01, bound.burst / bound.per_second / 4)
        name = f"w{chance.randrange(workers)}"
        grant = books.lend(name, "k", bound, chance.randint(1, 300), moment, workers)
        granted += grant.count
        books.settle(name, "k", grant.term, grant.count, 0, moment)
    assert granted == pytest.approx(bound.burst + 60 * bound.per_second, rel=0.01)


def test_what_a_worker_holds_unspent_makes_no_burst_larger() -> None:
    books, bound = accounts(), Rate(10, 10)
    first = books.lend("a", "k", bound, 100, JULY, 2)
    assert first.count == 5
    later = sum(books.lend("b", "k", bound, 100, JULY + 30, 1).count for _ in range(5))
    assert first.count + later == 10


@pytest.mark.parametrize("seed", range(8))
def test_a_quota_is_spent_to_the_last_call_and_never_beyond(seed: int) -> None:
    chance = random.Random(seed)
    books, bound = accounts(), Quota(1000, "day")
    held: dict[str, int] = {"a": 0, "b": 0, "c": 0}
    spent = 0
    for _ in range(20_000):
        name = chance.choice(list(held))
        if not held[name]:
            held[name] = books.lend(name, "k", bound, chance.randint(1, 256), JULY, 3).count
        if not held[name]:
            # As the coordinator does it: what others hold is called back for whoever is short.
            for other in books.holders("k", name):
                books.settle(other, "k", term("day", JULY)[0], 0, held[other], JULY)
                held[other] = 0
            held[name] = books.lend(name, "k", bound, 1, JULY, 3).count
        if held[name]:
            held[name] -= 1
            spent += 1
            books.settle(name, "k", term("day", JULY)[0], 1, 0, JULY)
    assert spent == 1000


def test_a_quota_begins_anew_with_its_period_and_late_returns_do_not_count() -> None:
    books, bound = accounts(), Quota(10, "minute")
    begin, end = term("minute", JULY)
    for _ in range(10):
        assert books.lend("a", "k", bound, 10, JULY, 1).count == 1
        books.settle("a", "k", begin, 1, 0, JULY)
    refused = books.lend("a", "k", bound, 1, JULY, 1)
    assert (refused.count, refused.wait) == (0, end - JULY)
    assert books.lend("a", "k", bound, 1, end, 1).left == 9
    books.settle("a", "k", begin, 0, 10, end)
    assert books.lend("b", "k", bound, 1, end, 1).left == 8


def test_slots_of_a_dead_worker_are_free_again() -> None:
    books, bound = accounts(), Slots(3)
    assert [books.lend("a", "k", bound, 1, JULY, 1).count for _ in range(4)] == [1, 1, 1, 0]
    books.leave("a")
    assert books.lend("b", "k", bound, 1, JULY, 1).count == 1


def test_the_months_of_a_quota_are_those_of_the_calendar() -> None:
    begin, end = term("month", JULY)
    assert end - begin == 31 * 86_400
    assert begin <= JULY < end


def test_a_ledger_gives_back_what_was_written_after_any_end_of_its_process(tmp_path: Path) -> None:
    path, bound = tmp_path / "quotas.jsonl", Quota(100, "month")
    moment = time.time()
    ledger = Ledger(path)
    ledger.load()
    books = Accounts(ledger.write)
    for number in range(7):
        books.lend(f"{number}", "k\x1fquota\x1f你好", bound, 1, moment, 1)
    # No close: the process was killed. The machine lost its power in the middle of a line, too.
    with path.open("ab") as file:
        file.write(b'["k2",["quota",')
    again = Accounts(lambda _key, _account: None)
    for line in Ledger(path).load():
        again.restore(line.key, line.bound, line.begin, line.count, moment)
    assert again.lend("a", "k\x1fquota\x1f你好", bound, 1, moment, 1).left == 100 - 8
    assert b"k2" not in path.read_bytes()


def test_a_ledger_forgets_periods_that_are_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "quotas.jsonl")
    old = QuotaAccount(Quota(5, "minute"), 60.0)
    old.take(5)
    ledger.write("k", old)
    assert Ledger(tmp_path / "quotas.jsonl").load() == []


@pytest.mark.parametrize("bound", [Rate(2.5, 10), Quota(9, "hour"), Slots(4)])
def test_a_bound_travels_as_it_is(bound: Rate | Quota | Slots) -> None:
    assert read(written(bound)) == bound


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"rate": "10"},
        {"rate": "0/second"},
        {"rate": "10/fortnight"},
        {"quota": "1.5/day"},
        {"quota": "10/second"},
        {"burst": 3, "quota": "5/day"},
        {"concurrent": 0},
    ],
)
def test_what_is_no_limit_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        LimitSpec.model_validate({"name": "x"} | told)
