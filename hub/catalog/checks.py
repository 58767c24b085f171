"""Says how servers do, without being asked: marks ill ones degraded with the reason, looks again at those well again.

Two sources, two vocabularies: checks of the hub's own (active; one worker does them) and what callers meet (passive;
each worker its own). Lists go on from the last good snapshot all the while, and one server that hangs delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hub.catalog.publisher import Snapshots
from hub.catalog.snapshot import Server
from hub.errors import HubError
from hub.upstream.health import Checkup
from hub.upstream.pool import Pool
from hub.upstream.terms import Terms

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Between looks at who is due and whose breaker opened."""

AT_ONCE = 32
"""Checks under way at once."""

DOWN_SECONDS = 300.0
"""Ill for so long without a check passed: no hiccup any more, and shown as down."""

CALLERS = "Calls to it fail: "
"""How the reason begins that callers met, so that it is told from what a look found."""


class Checks:
    """Watches the health of all servers of the snapshot. `run` is its owner task."""

    def __init__(
        self,
        snapshots: Snapshots,
        pool: Pool,
        terms: Terms,
        *,
        state: Callable[[str], str],
        mark: Callable[[str, str, str], Awaitable[object]],
        look: Callable[[str], Awaitable[object]],
        children: Callable[[], Awaitable[list[dict[str, Any]]]] | None,
    ) -> None:
        """`children` are the runner's; None: only what this worker's callers meet is watched."""
        self._snapshots = snapshots
        self._pool = pool
        self._terms = terms
        self._state = state
        self._mark = mark
        self._look = look
        self._children = children
        self._checkups: dict[str, Checkup] = {}
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failing: set[str] = set()
        """Servers that are marked because of what callers met."""
        self._clock = asyncio.get_running_loop().time

    def of(self, name: str) -> dict[str, Any] | None:
        """The verdict on one server; None where this worker does not check it."""
        checkup = self._checkups.get(name)
        if checkup is None:
            return None
        return {"healthy": checkup.verdict.healthy, "reason": checkup.verdict.reason}

    async def run(self) -> None:
        """Check until cancelled."""
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                await self._follow()
                if self._children is not None:
                    self._start_due()
                await self._listen_to_callers()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            await asyncio.gather(*(one.close() for one in self._checkups.values()), return_exceptions=True)
            self._checkups.clear()

    async def _follow(self) -> None:
        servers = self._snapshots.current.servers
        for name, checkup in list(self._checkups.items()):
            if name not in servers or servers[name].digest != checkup.digest:
                task = self._running.pop(name, None)
                if task is not None:
                    task.cancel()
                del self._checkups[name], self._due[name]
                with contextlib.suppress(HubError):
                    await checkup.close()
        self._failing &= servers.keys()

    def _start_due(self) -> None:
        now = self._clock()
        for name, server in self._snapshots.current.servers.items():
            terms = server.address.terms or self._terms
            if server.internal or not server.eras or not terms.active.interval or name in self._running:
                continue
            if now < self._due.get(name, 0.0) or len(self._running) >= AT_ONCE:
                continue
            self._due[name] = now + terms.active.interval
            if name not in self._checkups:
                self._checkups[name] = Checkup(name, server.address, server.digest, server.eras, terms)
            task = self._running[name] = asyncio.create_task(self._check(server, self._checkups[name]))
            task.add_done_callback(lambda done, name=name: self._ended(name, done))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._running.get(name) is task:
            del self._running[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the check of server %s failed", name, exc_info=error)

    async def _check(self, server: Server, checkup: Checkup) -> None:
        passed, reason, reachable = await (self._child(server.name) if server.address.socket else checkup.once())
        verdict = checkup.verdict
        if passed:
            self._let_callers_try(server.name)
            if verdict.passed():
                await self._looked(server.name)
            return
        became_ill = verdict.failed(reason, reachable=reachable)
        if became_ill or (not verdict.healthy and self._state(server.name) == "ready"):
            await self._marked(server.name, "degraded", reason)
        elif not verdict.healthy and self._clock() - verdict.ill_since > DOWN_SECONDS:
            await self._marked(server.name, "down", reason)

    async def _child(self, name: str) -> tuple[bool, str, bool]:
        """A child is the runner's to start and to restart: asked is the runner, so that nothing is woken by a check."""
        try:
            found = await self._children() if self._children is not None else []
        except HubError:
            # Without its runner a child cannot be judged; that is told of the runner.
            return True, "", True
        mine = next((one for one in found if one.get("name") == name), None)
        if mine is not None and mine.get("state") == "backing-off":
            return False, f"It ends as soon as it is started: {mine.get('reason') or 'its log has more'}", False
        return True, "", True

    def _let_callers_try(self, name: str) -> None:
        """It can be reached again: callers need not wait for the end of the breaker's pause."""
        known = self._pool.known(name)
        if known is not None and known.unreachable and known.breaker.state == "open":
            known.breaker.retry_now()

    async def _listen_to_callers(self) -> None:
        for name in list(self._snapshots.current.servers):
            known = self._pool.known(name)
            if known is None or self._snapshots.current.servers[name].internal:
                continue
            breaker = known.breaker
            if breaker.state != "closed" and (name not in self._failing or self._state(name) == "ready"):
                self._failing.add(name)
                await self._marked(name, "degraded", CALLERS + breaker.reason)
            elif breaker.state == "closed" and name in self._failing:
                self._failing.discard(name)
                await self._looked(name)

    async def _marked(self, name: str, state: str, reason: str) -> None:
        try:
            await self._mark(name, state, reason)
        except HubError as error:
            log.warning("the state of server %s could not be noted: %s", name, error.message)

    async def _looked(self, name: str) -> None:
        """Look at it in a task of its own: that may take as long as the server likes."""
        key = f"look at {name}"
        if key in self._running:
            return
        task = self._running[key] = asyncio.create_task(self._look_again(name))
        task.add_done_callback(lambda done: self._ended(key, done))

    async def _look_again(self, name: str) -> None:
        with contextlib.suppress(HubError):
            await self._look(name)
