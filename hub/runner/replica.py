"""One place where a child runs: started once for all who wait, restarted with back-off, stopped when idle.

What "running" means is the opener's business (a handshake, a socket that accepts); here it is something with a process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Literal, Protocol, TypeVar

from hub.errors import UpstreamDown
from hub.runner.process import Process

State = Literal["idle", "starting", "running", "backing-off", "stopped"]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds between attempts: none after the first failure, then doubling in between."""

HEALTHY_SECONDS = 3.0
"""A process that lived so long was well when it ended: it is started again without a pause, at most so often."""

PATIENCE = 2.0
"""A caller waits out a back-off of at most so many seconds; a longer one is told at once."""


class Opened(Protocol):
    """Something that stands on a process."""

    @property
    def process(self) -> Process:
        """The process that must live for it."""
        ...


Thing = TypeVar("Thing", bound=Opened)


def pause(failures: int) -> float:
    """Seconds to wait before the next start, after so many failures in a row."""
    return 0.0 if failures < 2 else min(FIRST_PAUSE * 2 ** (failures - 2), LONGEST_PAUSE)


class Replica(Generic[Thing]):
    """Owner of at most one opened thing at a time."""

    def __init__(self, label: str, opener: Callable[[], Awaitable[Thing]], starts: asyncio.Semaphore) -> None:
        self.label = label
        self.state: State = "idle"
        self.reason = ""
        self.restarts = 0
        self.busy = 0
        self.last_used = time.monotonic()
        self.thing: Thing | None = None
        self._opener = opener
        self._starts = starts
        self._failures = 0
        self._not_before = 0.0
        self._starting: asyncio.Task[Thing] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be used without starting anything."""
        return self.state == "running" and self.thing is not None and not self.thing.process.ended.is_set()

    @property
    def process(self) -> Process | None:
        """The living process, if there is one."""
        return self.thing.process if self.alive and self.thing is not None else None

    @asynccontextmanager
    async def borrowed(self) -> AsyncGenerator[Thing]:
        """The running thing, started if need be; counts as busy meanwhile. Raises UpstreamDown with the reason."""
        self.busy += 1
        try:
            yield await self.open()
        finally:
            self.busy -= 1
            self.last_used = time.monotonic()

    async def open(self) -> Thing:
        """The running thing; all callers share one start. Raises UpstreamDown with the reason."""
        if self.alive:
            assert self.thing is not None
            return self.thing
        if self.state == "stopped":
            raise UpstreamDown(f"server {self.label!r} is stopped", hint="it was removed or restarted; try again")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if not starting.cancelled():
                raise
            raise UpstreamDown(f"server {self.label!r} was stopped while it started", hint="try again") from None

    async def close(self, *, final: bool = True) -> None:
        """Stop what runs; after a final close nothing starts again. Returns when the process tree is gone."""
        self.state = "stopped" if final else "idle"
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        thing, self.thing = self.thing, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if thing is not None:
            await thing.process.stop()
        if final:  # else somebody may have opened it again meanwhile
            self.state = "stopped"

    def _started(self, task: asyncio.Task[Thing]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # told to those who wait; nobody may be left

    async def _start(self) -> Thing:
        wait = self._not_before - time.monotonic()
        if wait > PATIENCE:
            self.state = "backing-off"
            raise UpstreamDown(self.reason, hint=f"the next attempt is in {wait:.0f} s; see its log")
        if wait > 0:
            self.state = "backing-off"
            await asyncio.sleep(wait)
        async with self._starts:
            self.state = "starting"
            try:
                thing = await self._opener()
            except UpstreamDown as error:
                self._failed(error.message)
                raise
            except OSError as error:
                self._failed(f"server {self.label!r} cannot be started: {error.strerror or error}")
                raise UpstreamDown(self.reason, hint="check its command and the machine's limits") from error
            except BaseException:
                self.state = "idle"
                raise
        self.thing, self.state, self.reason = thing, "running", ""
        self.last_used = time.monotonic()
        self._watch = asyncio.create_task(self._notice_end(thing))
        return thing

    async def _notice_end(self, thing: Thing) -> None:
        await thing.process.ended.wait()
        if self.thing is not thing:
            return
        self.thing = None
        self.restarts += 1
        if time.time() - thing.process.started >= HEALTHY_SECONDS:
            self._failures = 0
        self._failed(f"server {self.label!r} ended with exit code {thing.process.code}")

    def _failed(self, reason: str) -> None:
        self.reason = reason
        self._failures += 1
        wait = pause(self._failures)
        self._not_before = time.monotonic() + wait
        self.state = "backing-off" if wait else "idle"
