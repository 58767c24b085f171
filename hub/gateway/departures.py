"""Callers of the modern era who leave before their answer: what is done for them stops.

Most requests are answered before anybody could leave, so they are only looked at in passing: one timer for all of
them, and a watcher for each that takes longer than a moment. A timer and two closures cost each call 3 µs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from starlette.types import Receive

WATCH_AFTER = 0.02
"""Seconds after which, or at most twice that, a request is watched for its caller's leaving."""


class Departures:
    """Watches over the requests of one worker."""

    def __init__(self) -> None:
        self._fresh: set[_Visit] = set()
        self._older: set[_Visit] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def during(self, work: Awaitable[None], receive: Receive) -> None:
        """Do `work`; when the caller leaves meanwhile, cancel it."""
        visit = _Visit(receive)
        self._fresh.add(visit)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._look)
        try:
            await work
        except asyncio.CancelledError:
            if not visit.gone or visit.task is None or visit.task.uncancel() > 0:
                raise
        finally:
            self._fresh.discard(visit)
            self._older.discard(visit)
            if visit.watcher is not None:
                visit.watcher.cancel()

    def _look(self) -> None:
        """Watch those that were here the last time already."""
        loop = asyncio.get_running_loop()
        for visit in self._older:
            visit.watcher = loop.create_task(visit.watch())
        self._older, self._fresh = self._fresh, set()
        self._timer = loop.call_later(WATCH_AFTER, self._look) if self._older else None


class _Visit:
    """One request under way."""

    __slots__ = ("gone", "receive", "task", "watcher")

    def __init__(self, receive: Receive) -> None:
        self.task = asyncio.current_task()
        self.receive = receive
        self.watcher: asyncio.Task[None] | None = None
        self.gone = False

    async def watch(self) -> None:
        """Wait for the caller's leaving."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self.task is not None:
            self.task.cancel()
