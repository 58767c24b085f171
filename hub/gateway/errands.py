"""What a server is told without anybody waiting for it: a cancellation, a refusal to answer, a good-bye."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from hub.errors import HubError

LONGEST_SECONDS = 30.0
"""A server that does not take a notification for so long is not told."""


class Errands:
    """Owns the tasks that do it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, work: Awaitable[None]) -> None:
        """Do it soon; whether it succeeds matters to nobody."""
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give what is under way a moment, then stop."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=2)
            for task in late:
                task.cancel()


async def _quietly(work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await work
    except (HubError, TimeoutError):
        return
