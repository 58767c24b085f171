"""The calls under way with one server: how many at once, who waits for a place, and who has had its whole time.

A call costs two operations on a dict here: no task, no timer, no lock. The total deadline is watched by one loop for
all servers (`Pool.watch`), which cancels the task of a call that is past it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from hub.errors import UpstreamBusy
from hub.upstream.terms import Concurrency


class Place:
    """One call's place. `expired` says that its task was cancelled because its total deadline had passed."""

    __slots__ = ("began", "expired", "task")

    def __init__(self, began: float, task: asyncio.Task[Any] | None) -> None:
        self.began = began
        self.task = task
        self.expired = False


class Lanes:
    """Places for the calls of one server on this worker."""

    def __init__(self, server: str, terms: Concurrency) -> None:
        self._server = server
        self._terms = terms
        self._limit = terms.calls or 2**31
        self._loop = asyncio.get_running_loop()
        self._running: dict[Place, None] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._promised = 0
        """Places given to waiting calls that have not woken up yet."""
        self.refused = 0
        """Calls that found no place, since the start."""

    @property
    def running(self) -> int:
        """Calls under way."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Calls that wait for a place."""
        return len(self._waiting)

    def enter(self) -> Place | None:
        """A place if there is one at once; None: `wait` for one."""
        if self._waiting or len(self._running) + self._promised >= self._limit:
            return None
        return self._taken(self._loop.time())

    async def wait(self) -> Place:
        """A place as soon as one is free. Raises `UpstreamBusy` when too many wait, or when it takes too long."""
        began = self._loop.time()
        if len(self._waiting) >= self._terms.queue:
            raise self._busy(f"{self._limit} calls are under way and {len(self._waiting)} wait")
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._terms.wait):
                await turn
        except TimeoutError as error:
            if self._gave_up(turn):
                raise self._busy(f"no place became free within {self._terms.wait:g} s") from error
        except asyncio.CancelledError:
            if not self._gave_up(turn):
                self._promised -= 1
                self._next()
            raise
        self._promised -= 1
        return self._taken(began)

    def leave(self, place: Place) -> None:
        """A call is over: the next in the queue gets its place."""
        self._running.pop(place, None)
        if self._waiting:
            self._next()

    def expire(self, total_seconds: float) -> None:
        """Cancel the calls that began so long ago."""
        if not self._running:
            return
        oldest = self._loop.time() - total_seconds
        for place in list(self._running):
            if place.began <= oldest and not place.expired and place.task is not None:
                place.expired = True
                place.task.cancel()

    def _taken(self, began: float) -> Place:
        place = Place(began, asyncio.current_task())
        self._running[place] = None
        return place

    def _gave_up(self, turn: asyncio.Future[None]) -> bool:
        """Leave the queue. False when the turn had come already, so that a place is ours to take or to pass on."""
        if turn.done() and not turn.cancelled():
            return False
        turn.cancel()
        if turn in self._waiting:
            self._waiting.remove(turn)
        return True

    def _next(self) -> None:
        while self._waiting and len(self._running) + self._promised < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._promised += 1
                turn.set_result(None)

    def _busy(self, why: str) -> UpstreamBusy:
        self.refused += 1
        return UpstreamBusy(
            f"Server {self._server!r} is busy: {why}",
            retry_after=1.0,
            hint="Call again in a moment; nothing was sent. The server's `concurrency` says how many may call.",
        )
