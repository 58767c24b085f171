"""The processes of one installation: started together, restarted when they die, stopped together.

The supervisor is single-threaded and holds nothing that matters: killed, it takes its children with it (the kernel
tells them), and the next start finds everything in the database and the spool.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.settings import Settings

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 10.0
"""Seconds before a dead process is started again: doubled while it dies at once, as a faulty one does."""

LIVED_SECONDS = 3.0
"""A process that lived for so long was well when it ended: killed, it is started again without a pause."""

STOP_SECONDS = 10.0
"""From the request to stop until SIGKILL; the runner needs up to five for its children."""

PR_SET_PDEATHSIG = 1

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Unless it is set: ranking 10,000 tools takes a millisecond alone, and ten of CPU where threads spin for a share."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One process: its name, command and the descriptors that it inherits."""

    name: str
    command: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


class Supervisor:
    """Keeps processes running. `run` is the owner of them all."""

    def __init__(self, settings: Settings, wanted: Sequence[Wanted], tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._wanted = wanted
        self._tell = tell
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False
        self.failed: dict[str, str] = {}
        """By name, how a process ended that did not live for a second."""

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything running until `stop` is set, then end it."""
        keepers = [asyncio.create_task(self._keep(one)) for one in self._wanted]
        await stop.wait()
        self._stopping = True
        await asyncio.gather(*(self._end(process) for process in self._running.values()))
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, wanted: Wanted) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._stopping:
            began = loop.time()
            process = await self._start(wanted)
            self._running[wanted.name] = process
            code = await process.wait()
            del self._running[wanted.name]
            if self._stopping:
                return
            lived = loop.time() - began
            self.failed[wanted.name] = f"exit code {code}"
            pause = FIRST_PAUSE if lived > LIVED_SECONDS else min(pause * 2, LONGEST_PAUSE)
            self._tell(f"{wanted.name} ended ({_how(code)}) and is started again; see {self._log(wanted.name)}")
            await asyncio.sleep(pause)

    async def _start(self, wanted: Wanted) -> asyncio.subprocess.Process:
        with self._log(wanted.name).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *wanted.command,
                stdin=asyncio.subprocess.DEVNULL,
                env=ONE_THREAD | os.environ,
                stdout=log,
                stderr=log,
                pass_fds=wanted.descriptors,
                # Of their own session, so that Ctrl-C reaches only us and the order of the end is ours.
                start_new_session=True,
                # No other thread runs in this process, so a function between fork and exec is safe here.
                preexec_fn=_die_with_parent,
            )

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        try:
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except ProcessLookupError:
            return
        except TimeoutError:
            process.kill()
            await process.wait()

    def _log(self, name: str) -> Path:
        return self._settings.logs_dir / f"{name}.out"


def hub_processes(settings: Settings, descriptor: int) -> list[Wanted]:
    """The runner, the hub's workers and, where there are several, their coordinator."""
    workers = [
        Wanted(
            f"hub-{worker}",
            (sys.executable, "-m", "hub", "serve", "--worker", str(worker), "--descriptor", str(descriptor)),
            (descriptor,),
        )
        for worker in range(settings.workers)
    ]
    runner = Wanted("runner", (sys.executable, "-m", "hub.runner"))
    if settings.workers == 1:
        return [runner, *workers]
    told = ("--socket", str(settings.limits_socket), "--ledger", str(settings.quotas_file))
    command = (sys.executable, "-m", "hub.limits", *told, "--workers", str(settings.workers))
    return [Wanted("coordinator", command), runner, *workers]


def _die_with_parent() -> None:
    """The kernel sends SIGTERM when the supervisor is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
