"""A worker's side of every counter: what it was lent, spent call by call without asking anybody.

A call takes from memory. Before a batch runs out the next one is asked for, beside the calls; what is not used goes
back. Without a coordinator a worker goes on with what it holds and a share that cannot add up to too much, and tells
the next coordinator what it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hub.catalog.limits import Limit
from hub.errors import HubError
from hub.ids import Clock
from hub.limits.accounts import REPORT_SECONDS, STRANDED_SHARE, Grant
from hub.limits.bounds import Bound, Quota, Rate, Slots, term, written

MOST_AHEAD = 256
"""Calls that are asked for at once: a busy counter asks about a hundred times less often than it is used."""

QUICK_SECONDS = 0.25
"""A batch that lasted for less is doubled the next time, one that lasted longer is halved."""

IDLE_SECONDS = 0.5
"""After so long without a call, what is held goes back."""

FORGOTTEN_SECONDS = 900.0
"""After so long without a call, a counter that holds nothing is forgotten."""

ANSWER_SECONDS = 1.0
"""How long a call waits for a batch. The coordinator answers in a fifth of a millisecond, or after its recall."""

LONGEST_REFUSAL = 0.25
"""How long a refusal is repeated without asking: meanwhile others may have given back, or a limit been raised."""


class LinkDown(HubError):
    """There is no coordinator at present."""

    code = "no-coordinator"


class Link(Protocol):
    """The way to the accounts: in this process, or to the coordinator."""

    def now(self, key: str, bound: Bound, want: int, begin: int, spent: int) -> Grant | None:
        """A grant at once where the accounts are in this process; None: ask."""
        ...

    async def ask(self, key: str, bound: Bound, want: int, begin: int, spent: int) -> Grant:
        """A grant from the coordinator. Raises `LinkDown`."""
        ...

    def give(self, key: str, begin: int, spent: int, back: int) -> bool:
        """Say what was spent and bring the rest back. False: there is nobody to tell."""
        ...

    async def usage(self, prefix: str) -> list[tuple[str, float]]:
        """What is used of the accounts whose key begins so. Raises `LinkDown`."""
        ...


class Exhausted(Exception):
    """A counter has nothing left; `wait` is the seconds until it may."""

    def __init__(self, counter: Counter, wait: float) -> None:
        super().__init__(counter.key)
        self.counter = counter
        self.wait = wait


class Counter:
    """One counter of one limit, here: `held` calls may be spent, `busy` slots are in use."""

    __slots__ = (
        "answer",
        "away",
        "away_at",
        "away_tokens",
        "bound",
        "busy",
        "granted",
        "held",
        "key",
        "left",
        "left_at",
        "limit",
        "refused",
        "spent",
        "term",
        "until",
        "used",
        "wait",
        "waiting",
        "want",
        "whose",
    )

    def __init__(self, key: str, bound: Bound, limit: Limit, whose: str) -> None:
        self.key = key
        self.bound = bound
        self.limit = limit
        self.whose = whose
        self.held = 0
        self.busy = 0
        self.spent = 0
        self.term = 0
        self.until = 0.0
        self.want = 1
        self.waiting = 0
        self.answer: asyncio.Task[None] | None = None
        self.granted = self.used = self.refused = self.wait = 0.0
        self.left = -1.0
        self.left_at = 0.0
        self.away = 0
        self.away_tokens = self.away_at = 0.0


class Leases:
    """The counters of one worker. `run` is the owner of their book-keeping."""

    def __init__(self, link: Link, clock: Clock, elapsed: Callable[[], float], workers: int = 1) -> None:
        """`clock` tells the date, `elapsed` how time passes (it is never set back)."""
        self._link = link
        self._clock = clock
        self._elapsed = elapsed
        self._workers = workers
        self._counters: dict[str, Counter] = {}
        self._active: set[Counter] = set()

    def counter(self, key: str, bound: Bound, limit: Limit, whose: str) -> Counter:
        """The counter of a key; a limit that was changed keeps its count."""
        known = self._counters.get(key)
        if known is None:
            known = self._counters[key] = Counter(key, bound, limit, whose)
        elif known.bound != bound:
            known.bound, known.refused = bound, 0.0
        known.limit = limit
        known.used = self._elapsed()
        return known

    def take(self, counters: Sequence[Counter]) -> bool:
        """Spend one call of each, or none of any."""
        for counter in counters:
            if counter.held < 1 or (counter.until and self._clock() >= counter.until):
                return False
        moment = self._elapsed()
        for counter in counters:
            counter.held -= 1
            counter.used = moment
            self._active.add(counter)
            if isinstance(counter.bound, Slots):
                counter.busy += 1
                continue
            counter.spent += 1
            if counter.held * 2 < counter.want and counter.want > 1 and counter.refused <= moment:
                self._ask_ahead(counter)
        return True

    async def obtain(self, counters: Sequence[Counter]) -> None:
        """Spend one call of each, asking where nothing is held. Raises `Exhausted`; then nothing is spent."""
        until = self._elapsed() + 2 * ANSWER_SECONDS
        while not self.take(counters):
            for counter in counters:
                if counter.until and self._clock() >= counter.until:
                    counter.held, counter.spent, counter.until, counter.refused = 0, 0, 0.0, 0.0
                if counter.held < 1:
                    await self._refill(counter)
            if self._elapsed() > until:
                # Others were faster each time: that is what being over a bound looks like.
                raise Exhausted(counters[0], 1.0)

    def release(self, counters: Sequence[Counter]) -> None:
        """The call is over: its slots are free again, here."""
        for counter in counters:
            if isinstance(counter.bound, Slots):
                counter.busy -= 1
                counter.held += 1
                counter.refused = 0.0
                counter.used = self._elapsed()
                if counter.busy + counter.held > counter.bound.count:
                    # The limit was lowered meanwhile.
                    self._give_back(counter)

    def recalled(self, key: str) -> tuple[int, int, int]:
        """Another worker is short: the term, what was spent and what goes back."""
        counter = self._counters.get(key)
        if counter is None:
            return 0, 0, 0
        spent, back = counter.spent, max(counter.held, 0)
        counter.spent, counter.held, counter.want = 0, 0, 1
        return counter.term, spent, back

    def holdings(self) -> list[list[Any]]:
        """For a new coordinator: what is held here, what was spent without one, and what was left by the last word."""
        told: list[list[Any]] = []
        for counter in self._counters.values():
            if counter.held or counter.busy or counter.away or counter.left >= 0:
                left = max(counter.left, 0.0)
                if isinstance(counter.bound, Rate):
                    left += (self._elapsed() - counter.left_at) * counter.bound.per_second
                held = counter.held + counter.busy
                told.append([counter.key, written(counter.bound), counter.term, held, counter.away, left])
            counter.away, counter.away_tokens, counter.away_at, counter.spent = 0, 0.0, 0.0, 0
        return told

    async def usage(self, prefix: str) -> list[tuple[str, float]]:
        """What is used of the accounts whose key begins so, most used first. Raises `LinkDown`."""
        return await self._link.usage(prefix)

    async def run(self) -> None:
        """Say what was spent, bring back what is not used, forget what nobody uses."""
        turn = 0
        try:
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                self.sweep()
                turn += 1
                if turn % 500 == 0:
                    self._forget_old()
        finally:
            for counter in self._active:
                self._give_back(counter)

    def sweep(self) -> None:
        """One round of book-keeping over the counters that moved."""
        moment = self._elapsed()
        for counter in list(self._active):
            if moment - counter.used >= IDLE_SECONDS:
                self._give_back(counter)
                counter.want = 1
                if not counter.held and not counter.busy and not counter.spent:
                    self._active.discard(counter)
            elif counter.spent and self._link.give(counter.key, counter.term, counter.spent, 0):
                counter.spent = 0

    def _give_back(self, counter: Counter) -> None:
        back = max(counter.held, 0)
        if (back or counter.spent) and self._link.give(counter.key, counter.term, counter.spent, back):
            counter.spent, counter.held = 0, counter.held - back

    def _forget_old(self) -> None:
        oldest = self._elapsed() - FORGOTTEN_SECONDS
        for key, counter in list(self._counters.items()):
            idle = not (counter.held or counter.busy or counter.spent or counter.waiting)
            if idle and counter.used < oldest and counter not in self._active:
                del self._counters[key]

    def _ask_ahead(self, counter: Counter) -> None:
        bound = counter.bound
        if isinstance(bound, Quota) and bound.count < STRANDED_SHARE * self._workers:
            # One call held ahead of so few would be more than may be lost with this process.
            return
        grant = self._now(counter)
        if grant is not None:
            if grant.count:
                self._lent(counter, grant)
            else:
                # Not refused to anybody yet: what is held is spent first.
                counter.want = 1
        elif counter.answer is None:
            counter.answer = asyncio.create_task(self._ask(counter, ahead=True))

    async def _refill(self, counter: Counter) -> None:
        moment = self._elapsed()
        if counter.refused > moment:
            raise Exhausted(counter, max(counter.wait - moment, 0.001))
        grant = self._now(counter)
        if grant is not None:
            self._lent(counter, grant)
        else:
            if counter.answer is None:
                counter.answer = asyncio.create_task(self._ask(counter))
            counter.waiting += 1
            try:
                await asyncio.wait([counter.answer], timeout=ANSWER_SECONDS)
            finally:
                counter.waiting -= 1
        if counter.held < 1 and counter.refused > moment:
            raise Exhausted(counter, max(counter.wait - self._elapsed(), 0.001))

    def _now(self, counter: Counter) -> Grant | None:
        spent = counter.spent
        grant = self._link.now(counter.key, counter.bound, counter.want, counter.term, spent)
        if grant is not None:
            counter.spent -= spent
        return grant

    async def _ask(self, counter: Counter, *, ahead: bool = False) -> None:
        """One question to the coordinator. Owned by the counter: whoever waits may go, the answer still counts."""
        try:
            spent, want = counter.spent, max(counter.want, counter.waiting)
            counter.spent = 0
            try:
                grant = await self._link.ask(counter.key, counter.bound, want, counter.term, spent)
            except LinkDown:
                grant = self._away(counter, want)
            if grant.count or not ahead or counter.waiting:
                self._lent(counter, grant)
            else:
                counter.want = 1
        finally:
            counter.answer = None

    def _lent(self, counter: Counter, grant: Grant) -> None:
        moment = self._elapsed()
        counter.left, counter.left_at = grant.left, moment
        if not grant.count:
            counter.wait = moment + grant.wait
            pause = 0.01 if isinstance(counter.bound, Slots) else LONGEST_REFUSAL
            counter.refused = moment + min(grant.wait, pause)
            counter.want = 1
            return
        if counter.term != grant.term:
            counter.held = 0
        counter.held += grant.count
        counter.term, counter.until, counter.refused = grant.term, grant.until, 0.0
        self._active.add(counter)
        # One that was forgotten and is used again must be found when it is recalled.
        self._counters.setdefault(counter.key, counter)
        quick = moment - counter.granted < QUICK_SECONDS
        counter.want = min(counter.want * 2, MOST_AHEAD) if quick else max(counter.want // 2, 1)
        counter.granted = moment

    def _away(self, counter: Counter, want: int) -> Grant:
        """What may be spent while there is no coordinator: a share of which all workers together stay in bounds."""
        bound, moment, begin, until = counter.bound, self._elapsed(), 0, 0.0
        if isinstance(bound, Rate):
            share = bound.per_second / self._workers
            since = moment - counter.away_at if counter.away_at else 0.0
            counter.away_tokens = min(max(bound.burst / self._workers, 1.0), counter.away_tokens + since * share)
            counter.away_at = moment
            count = min(want, int(counter.away_tokens))
            counter.away_tokens -= count
            wait = (1 - counter.away_tokens) / share
        elif isinstance(bound, Quota):
            date = self._clock()
            begin, until = term(bound.period, date)
            known = counter.left >= 0 and counter.term == begin
            allowed = counter.left / (2 * self._workers) if known else bound.count / (STRANDED_SHARE * self._workers)
            count, wait = min(want, max(int(allowed) - counter.away, 0)), min(until - date, 1.0)
        else:
            count = min(want, max(bound.count // self._workers - counter.held - counter.busy, 0))
            wait = 1.0
        counter.away += 0 if isinstance(bound, Slots) else count
        return Grant(count, 0.0 if count else wait, begin, until, max(counter.left, 0.0))
