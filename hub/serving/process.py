"""What a process that serves does beside: have its connections look at the clock, and spare the collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import uvicorn

from hub.serving.connection import HttpConnection

SWEEP_SECONDS = 1.0

COLLECT_AFTER = (10_000, 20, 20)
"""Thresholds of the collector: a call leaves no cycles, so looking every 700 objects finds nothing."""


async def sweep(servers: Sequence[uvicorn.Server]) -> None:
    """Have every connection look at the clock about once a second: a timer for each request would cost 2 µs of it."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for server in servers:
            for connection in list(server.server_state.connections):
                if isinstance(connection, HttpConnection):
                    connection.sweep(loop.time())


def spare_collector() -> None:
    """What was made until now stays for good: never look at it again.

    A full collection over it stopped every call for 100 ms; that was the p99 at 64 connections, and an eighth of
    the CPU there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
