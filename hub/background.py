"""Background loops that outlive their own faults: one bad answer of one server must not end a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a loop that failed is begun again: doubled each time, reset once it ran for a minute."""


async def kept(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it returns; when it fails unexpectedly, say so in the log and begin it again."""
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE
    while True:
        began = loop.time()
        try:
            await work()
            return
        except Exception:
            # The supervisor of our own loops: whatever it was, the loop is needed.
            log.exception("the background loop %r failed and is begun again", name)
        pause = FIRST_PAUSE if loop.time() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
        await asyncio.sleep(pause)
