"""Composition of the runner process: settings in, a socket that answers until SIGTERM, no child left behind.

A runner that is killed needs nothing from here: each child's shepherd notices by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import uvicorn
import uvloop

from hub.errors import HubError, Unavailable
from hub.runner.api import Api
from hub.runner.child import Place
from hub.runner.sandbox.bubblewrap import BubblewrapSandbox
from hub.runner.spec import Bounds, WantedFile
from hub.runner.supervisor import Supervisor
from hub.runner.weights import WeightStore
from hub.serving.connection import HttpConnection
from hub.serving.process import spare_collector, sweep
from hub.settings import Settings

STOP_SECONDS = 5
"""All children are gone by then, or killed."""

BACKLOG = 2048
"""As many as the hub's own sockets take: what waits here are its calls."""

log = logging.getLogger("entrepot.runner")


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the runner's own come first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone."""
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises Unavailable when another runner holds the socket."""
    prepare(settings)
    bounds = Bounds()
    place = Place(
        sockets=settings.run_dir,
        logs=settings.logs_dir,
        caches=settings.home / "cache",
        packages=settings.home / "packages",
        sandbox=BubblewrapSandbox(hidden=[settings.home, settings.run_dir]),
        starts=asyncio.Semaphore(bounds.parallel_starts),
        bounds=bounds,
    )
    supervisor = Supervisor(place, WantedFile(settings.home / "runner.json"))
    config = uvicorn.Config(
        Api(supervisor, place.sandbox, WeightStore(settings.weights_dir)),
        http=HttpConnection,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        date_header=False,
        log_config=None,
        # Longer than the hub keeps an idle connection: it closes first, so no call meets one that is being closed.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = Server(config)

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await supervisor.start()
    # Bound here, so that its file is known as ours: after a killed `up` the next runner may be there before we go.
    listener = listen(settings.runner_socket)
    own = identity(settings.runner_socket)
    spare_collector()
    sweeping = asyncio.create_task(sweep([server]))
    try:
        await server.serve(sockets=[listener])
    finally:
        sweeping.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await supervisor.close()
        with contextlib.suppress(FileNotFoundError):
            if identity(settings.runner_socket) == own:
                settings.runner_socket.unlink()


def prepare(settings: Settings) -> None:
    """Make the folders, clear what a killed runner left. Raises Unavailable when one is alive."""
    settings.home.mkdir(parents=True, exist_ok=True)
    for folder in (settings.run_dir, settings.logs_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    if settings.run_dir.stat().st_uid != os.geteuid():
        raise Unavailable(f"{settings.run_dir} belongs to another user", hint="remove it")
    if settings.runner_socket.exists() and answers(settings):
        raise Unavailable("a runner is running already", hint="`entrepot down` ends it")
    settings.runner_socket.unlink(missing_ok=True)
    for left in settings.run_dir.glob("c????????????-*"):
        shutil.rmtree(left, ignore_errors=True)


def listen(path: Path) -> socket.socket:
    """A listening socket there that only this user may open."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


def identity(path: Path) -> tuple[int, int]:
    """What tells this file from a later one of the same name, whose inode may be the same again."""
    found = path.stat()
    return found.st_ino, found.st_ctime_ns


def answers(settings: Settings) -> bool:
    """Whether somebody listens on the runner's socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(settings.runner_socket)) == 0


def main() -> None:
    """Entry point of `python -m hub.runner`."""
    settings = Settings()  # pyright: ignore[reportCallIssue]
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    os.umask(0o077)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except HubError as fault:
        log.error("%s (%s)", fault.reason, fault.hint)
        sys.exit(1)
