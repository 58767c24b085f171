"""One hub worker: the app on the network's socket, on the admin socket (worker 0) and on its own (for the others)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import uvicorn
import uvloop
from starlette.types import ASGIApp

from hub.app import Hub, Part
from hub.cli.parts import load_parts
from hub.cli.sockets import BACKLOG, listen
from hub.db.engine import Database
from hub.db.history import HUB, pending
from hub.errors import Unavailable
from hub.serving.connection import HttpConnection
from hub.serving.process import spare_collector, sweep
from hub.settings import Settings
from hub.telemetry.logging import configure

log = logging.getLogger(__name__)

GRACE_SECONDS = 5
KEEP_ALIVE_SECONDS = 75
"""Longer than the minute that proxies in front commonly keep theirs, so that they close first."""


SWITCH_SECONDS = 0.0005
"""After which a thread at work gives way to the event loop. A snapshot of 10,000 tools is built beside the calls; at
Python's 5 ms each of the few steps of a call would wait that long for its turn."""

MIGRATE_SECONDS = 600
"""An audit index of a hundred million rows may need minutes for a new column."""


def serve(settings: Settings, worker: int, descriptor: int | None) -> None:
    """Run one worker until told to stop. `descriptor` is a listening socket handed down by `up`."""
    configure(settings, f"hub-{worker}")
    sys.setswitchinterval(SWITCH_SECONDS)
    # It would say three times that it started, once per socket; we say it once.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    listener = socket.socket(fileno=descriptor) if descriptor is not None else listen(settings.host, settings.port)
    parts = load_parts()
    if worker == 0:
        # Once for all workers; when it fails, this process ends and `up` says why.
        _bring_tables_forward(settings, parts)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, parts, worker, listener))


def _bring_tables_forward(settings: Settings, parts: Sequence[Part]) -> None:
    """In a process of its own, and only where there is something to do: a worker need not carry the migration engine.

    Raises `Unavailable` with that process's words.
    """
    database = Database(settings.database)
    try:
        histories = [HUB, *(part.history for part in parts if part.history is not None)]
        if not any(pending(database, history) for history in histories):
            return
    finally:
        database.close()
    done = subprocess.run(
        [sys.executable, "-m", "hub", "migrate"], capture_output=True, text=True, timeout=MIGRATE_SECONDS
    )
    if done.returncode:
        raise Unavailable("The database could not be brought to this version", hint=done.stderr.strip()[-1000:])


async def _serve(settings: Settings, parts: Sequence[Part], worker: int, listener: socket.socket) -> None:
    hub = Hub(settings, parts, worker)
    async with hub.running():
        # Before anything shows that this worker is there: whoever sees it may tell it to stop.
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, stop.set)
        servers = [(_server(hub.app), listener), (_server(hub.internal), _local(settings, f"worker-{worker}.sock"))]
        if worker == 0:
            servers.append((_server(hub.local), _local(settings, settings.admin_socket.name)))
        # A change that was announced between our loading and our listening reached nobody.
        await hub.reload()
        spare_collector()
        log.info("worker %d serves %s", worker, settings.url)
        tasks = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers]
        stopped = asyncio.create_task(stop.wait())
        sweeping = asyncio.create_task(sweep([server for server, _ in servers]))
        await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)
        stopped.cancel()
        sweeping.cancel()


class _Server(uvicorn.Server):
    """Signals are handled once for all servers of this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _server(app: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            # Said, not guessed: an app whose `__call__` hands an awaitable on would be taken for one of ASGI 2.
            interface="asgi3",
            http=HttpConnection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def _local(settings: Settings, name: str) -> socket.socket:
    """A socket in the run folder that only this user may open."""
    path: Path = settings.run_dir / name
    path.unlink(missing_ok=True)
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        local.bind(str(path))
    finally:
        os.umask(before)
    local.listen(BACKLOG)
    return local
