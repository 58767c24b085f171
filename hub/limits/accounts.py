"""The one truth about every counter: what is free, what is lent to which worker. Pure; the clock is an argument.

Workers are lent calls in batches and spend them without asking. What is lent counts as gone, so the sum over all
workers is never above a bound; near exhaustion batches shrink to one, and what others hold unspent is called back,
so it is not below it either.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hub.limits.bounds import Bound, Quota, Rate, Slots, term

MOST_ACCOUNTS = 200_000
"""Counters kept, a few hundred bytes each. The one unused for longest that nobody borrows from goes first."""

STRANDED_SHARE = 100
"""All workers together hold at most this part of a quota unspent: what a power cut may cost its owner."""

LEAST_PAUSE = 0.005
"""Seconds for which a worker that got nothing does not ask again: refusals must not become a load."""

REPORT_SECONDS = 0.2
"""How often workers say what they spent of what they were lent."""

Changed = Callable[[str, "QuotaAccount"], None]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a worker is lent: `count` calls to be spent in `term`, before `until` (0: any time).

    With a count of nought, `wait` is how many seconds until there may be more. `left` is what the account still has.
    """

    count: int
    wait: float
    term: int
    until: float
    left: float


class RateAccount:
    """A token bucket. Its tokens and those lent and not yet reported as spent are together at most the burst."""

    def __init__(self, bound: Rate, moment: float) -> None:
        self.bound = bound
        self.tokens = bound.burst
        self.at = moment
        self.lent: dict[str, int] = {}
        self.term = 0
        self.until = 0.0
        self._spilt = 0.0

    def refresh(self, moment: float) -> None:
        """Let the tokens of the time since the last look in. A clock that was set back takes none away."""
        due = max(0.0, moment - self.at) * self.bound.per_second
        room = max(self.bound.burst - sum(self.lent.values()) - self.tokens, 0.0)
        gained = min(due, room)
        self.tokens += gained
        self._spilt = min(self._spilt + due - gained, self.bound.per_second * REPORT_SECONDS * 2)
        self.at = moment

    def free(self) -> int:
        """Whole calls that can be lent now."""
        return int(self.tokens + 1e-9)

    def batch(self, workers: int) -> int:
        """The most that one of `workers` gets at once."""
        return math.ceil(self.tokens / workers)

    def take(self, count: int) -> None:
        """Lend."""
        self.tokens -= count

    def put_back(self, count: int) -> None:
        """Unspent calls come back."""
        self.tokens = min(self.bound.burst, self.tokens + count)

    def spent(self, count: int) -> None:
        """Lent calls were spent, a moment ago: what spilt over since then for want of room comes in after all."""
        late = min(self._spilt, count)
        self._spilt -= late
        self.tokens += late

    def forget(self, count: int) -> None:
        """What a dead worker held counts as spent."""

    def wait(self, moment: float) -> float:
        """Seconds until a call is free again."""
        pause = min(LEAST_PAUSE, self.bound.burst / self.bound.per_second / 2)
        return max((1 - self.tokens) / self.bound.per_second, pause)

    def used(self) -> float:
        """Calls of the burst that are gone."""
        return max(self.bound.burst - self.tokens, 0.0)


class QuotaAccount:
    """Calls of one period, counted as used when they are lent; `changed` writes that down before they are."""

    def __init__(self, bound: Quota, moment: float) -> None:
        self.bound = bound
        self.count = 0
        self.term, self.until = term(bound.period, moment)
        self.lent: dict[str, int] = {}

    def refresh(self, moment: float) -> None:
        """Begin a new period when the clock says so. A clock that was set back stays in the later one."""
        begin, end = term(self.bound.period, moment)
        if begin > self.term:
            self.count, self.term, self.until = 0, begin, end
            self.lent.clear()

    def free(self) -> int:
        """Calls that are left."""
        return max(self.bound.count - self.count, 0)

    def batch(self, workers: int) -> int:
        """The most that one of `workers` gets at once."""
        return max(1, min(self.free() // (4 * workers), self.bound.count // (STRANDED_SHARE * workers)))

    def take(self, count: int) -> None:
        """Lend."""
        self.count += count

    def put_back(self, count: int) -> None:
        """Unspent calls come back."""
        self.count = max(self.count - count, 0)

    def spent(self, count: int) -> None:
        """They were counted when they were lent."""

    def forget(self, count: int) -> None:
        """What a dead worker held counts as spent."""

    def wait(self, moment: float) -> float:
        """Seconds until the next period."""
        return max(self.until - moment, 0.001)

    def used(self) -> float:
        """Calls that are gone, what workers hold unspent included."""
        return self.count


class SlotsAccount:
    """Calls at the same time: lent slots come back when they are no longer needed."""

    def __init__(self, bound: Slots, _moment: float) -> None:
        self.bound = bound
        self.lent: dict[str, int] = {}
        self.term = 0
        self.until = 0.0

    def refresh(self, moment: float) -> None:
        """Time changes nothing here."""

    def free(self) -> int:
        """Slots that nobody has."""
        return max(self.bound.count - sum(self.lent.values()), 0)

    def batch(self, workers: int) -> int:
        """The most that one of `workers` gets at once."""
        return max(1, self.free() // (2 * workers))

    def take(self, count: int) -> None:
        """Lend: `lent` is the count."""

    def put_back(self, count: int) -> None:
        """Slots come back: `lent` is the count."""

    def spent(self, count: int) -> None:
        """Slots are never spent."""

    def forget(self, count: int) -> None:
        """The calls of a dead worker are over."""

    def wait(self, moment: float) -> float:
        """Nobody knows when a call ends; soon is a fair guess."""
        return 1.0

    def used(self) -> float:
        """Slots that workers have."""
        return sum(self.lent.values())


Account = RateAccount | QuotaAccount | SlotsAccount


class Accounts:
    """All counters of an installation. `changed` hears of every quota whose count is about to be relied on."""

    def __init__(self, changed: Changed) -> None:
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._changed = changed

    def restore(self, key: str, bound: Quota, begin: int, count: int, moment: float) -> None:
        """A quota as it was written down; one of an earlier period is over."""
        account = QuotaAccount(bound, moment)
        if account.term == begin:
            account.count = count
            self._accounts[key] = account

    def lend(self, worker: str, key: str, bound: Bound, want: int, moment: float, workers: int) -> Grant:
        """Lend `worker` up to `want` calls, fewer where they grow scarce.

        Nought is a refusal to one who holds nothing; of a quota nobody holds more than a batch.
        """
        account = self._account(key, bound, moment)
        free = account.free()
        held = account.lent.get(worker, 0) if isinstance(account, QuotaAccount) else 0
        count = max(0, min(want, free, account.batch(max(workers, 1)) - held))
        if count:
            account.take(count)
            account.lent[worker] = account.lent.get(worker, 0) + count
            if isinstance(account, QuotaAccount):
                self._changed(key, account)
        wait = 0.0 if count else account.wait(moment)
        return Grant(count, wait, account.term, account.until, account.free())

    def settle(self, worker: str, key: str, begin: int, spent: int, back: int, moment: float) -> None:
        """What a worker did with calls it was lent in the period that began at `begin`: spent or brought back."""
        account = self._accounts.get(key)
        if account is None:
            return
        account.refresh(moment)
        if account.term != begin:
            return
        held = account.lent.get(worker, 0)
        spent, back = min(max(spent, 0), held), max(back, 0)
        back = min(back, held - spent)
        account.lent[worker] = held - spent - back
        if not account.lent[worker]:
            del account.lent[worker]
        account.spent(spent)
        if back:
            account.put_back(back)
            if isinstance(account, QuotaAccount):
                self._changed(key, account)

    def report(
        self, worker: str, key: str, bound: Bound, begin: int, held: int, away: int, left: float, moment: float
    ) -> None:
        """What a worker holds and spent by itself while there was no coordinator, told to a new one.

        `left` is what the account had, by its last word to this worker and by now.
        """
        known = key in self._accounts
        account = self._account(key, bound, moment)
        if account.term != begin:
            return
        if isinstance(account, RateAccount):
            account.tokens = max(min(account.tokens if known else account.bound.burst, left), 0.0) - away
        elif isinstance(account, QuotaAccount):
            account.take(away)
            self._changed(key, account)
        if held:
            account.lent[worker] = held

    def leave(self, worker: str) -> None:
        """A worker is gone: its calls ended with it, and what it held unspent counts as spent."""
        for account in self._accounts.values():
            account.forget(account.lent.pop(worker, 0))

    def holders(self, key: str, but: str) -> list[str]:
        """The other workers that hold calls of an account."""
        account = self._accounts.get(key)
        return [] if account is None else [worker for worker, held in account.lent.items() if held and worker != but]

    def usage(self, prefix: str, most: int, moment: float) -> list[tuple[str, float]]:
        """The accounts whose key begins so, most used first, with what is used of them."""
        found: list[tuple[str, float]] = []
        for key, account in self._accounts.items():
            if key.startswith(prefix):
                account.refresh(moment)
                found.append((key, account.used()))
        return sorted(found, key=lambda pair: -pair[1])[:most]

    def _account(self, key: str, bound: Bound, moment: float) -> Account:
        account = self._accounts.get(key)
        if account is None or not _fits(account, bound):
            if len(self._accounts) >= MOST_ACCOUNTS:
                self._make_room()
            account = self._accounts[key] = _opened(bound, moment)
        else:
            self._accounts.move_to_end(key)
        account.refresh(moment)
        return account

    def _make_room(self) -> None:
        for key, account in self._accounts.items():
            # A quota that was begun must not begin again because others were more often asked for.
            if not account.lent and not isinstance(account, QuotaAccount):
                del self._accounts[key]
                return
        self._accounts.popitem(last=False)


def _opened(bound: Bound, moment: float) -> Account:
    if isinstance(bound, Rate):
        return RateAccount(bound, moment)
    return QuotaAccount(bound, moment) if isinstance(bound, Quota) else SlotsAccount(bound, moment)


def _fits(account: Account, bound: Bound) -> bool:
    """Whether an account can go on under a bound; one that was only raised or lowered keeps its count."""
    if isinstance(account, RateAccount) and isinstance(bound, Rate):
        account.bound = bound
        return True
    if isinstance(account, QuotaAccount) and isinstance(bound, Quota):
        same = account.bound.period == bound.period
        if same:
            account.bound = bound
        return same
    if isinstance(account, SlotsAccount) and isinstance(bound, Slots):
        account.bound = bound
        return True
    return False
