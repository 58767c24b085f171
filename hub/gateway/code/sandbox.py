"""The interpreters that programs run in: child processes of this worker, few, started at first use, bounded in all.

A program has no files, no network, no environment and no clock to hold anybody up with; it can do nothing but compute
and call what it is given. Each call of this module's methods is one turn: from the program's start, or the answer it
waited for, to where it next needs something. Turns run in threads, for the interpreter's own asyncio form leaves
threads behind that can abort this process at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic_monty import (
    ExternalModule,
    FunctionSnapshot,
    FutureSnapshot,
    Monty,
    MontyComplete,
    MontySession,
    NameLookupSnapshot,
    ResourceLimits,
)

from hub.errors import TooMany

log = logging.getLogger(__name__)

SCRIPT = "program.py"
"""What tracebacks call a program."""

TURNS_OF_OTHERS = 2000
"""Turns beside the calls: imports, names that are looked up, results that come one by one."""

SLEEP_SECONDS = 5.0
"""Of all sleep in one stay in an interpreter: it holds a place that others wait for, and counts as no computing."""

PROGRAMS_A_PROCESS = 200
"""Then an interpreter is replaced, so that what a program might leave behind in it has an end."""

WAIT_SECONDS = 20.0
"""For a free interpreter."""

IDLE_SECONDS = 300.0
"""Then the interpreters are ended: each takes about 30 MB, twice that where types were checked."""

GRACE_SECONDS = 1.0
"""Between the end of a program's time and the end of its process, if it does not notice."""

Turn = FunctionSnapshot | FutureSnapshot | NameLookupSnapshot | MontyComplete
T = TypeVar("T")
Modules = Mapping[str, ExternalModule | Callable[[], ExternalModule]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one program may use. `processes` is for all programs of this worker together."""

    processes: int = 2
    seconds: float = 5.0
    memory_bytes: int = 64 * 2**20
    calls: int = 200
    output_bytes: int = 32 * 2**10


class Printed:
    """What a program prints, up to a number of characters; the rest is counted and dropped.

    A failure here would reach the program only when its turn ends, so nothing is gained by refusing.
    """

    def __init__(self, limit: int, text: str = "") -> None:
        self._limit = limit
        self._parts = [text] if text else []
        self._size = len(text)
        self.dropped = 0

    def __call__(self, _stream: Literal["stdout", "stderr"], text: str) -> None:
        """Take what was printed."""
        room = max(self._limit - self._size, 0)
        if room:
            self._parts.append(text[:room])
            self._size += min(len(text), room)
        self.dropped += max(len(text) - room, 0)

    @property
    def text(self) -> str:
        """All of it that was kept."""
        return "".join(self._parts)


class Stay:
    """One program's place in an interpreter, from its first turn here until it ends or is put aside."""

    def __init__(self, session: MontySession, printed: Printed, threads: ThreadPoolExecutor) -> None:
        self._session = session
        self._printed = printed
        self._threads = threads
        self.pid = session.worker_pid

    async def start(self, program: str) -> Turn:
        """Check the program's types, then run it until it needs something. Raises what `pydantic_monty` raises."""
        return await self._turn(lambda: self._session.feed_start(program, print_callback=self._printed))

    async def restore(self, dump: bytes) -> Turn:
        """Go on with a program that was put aside. `dump` must be one of ours, unchanged."""
        return await self._turn(lambda: self._session.load_snapshot(dump, print_callback=self._printed))

    async def resume(self, work: Callable[[], Turn]) -> Turn:
        """Answer what a turn asked for: `work` is its `resume` with the answer."""
        return await self._turn(work)

    async def dump(self, turn: Turn) -> bytes:
        """The waiting program as bytes, from which it can go on in any interpreter."""
        return b"" if isinstance(turn, MontyComplete) else await self._turn(turn.dump)

    async def _turn(self, work: Callable[[], T]) -> T:
        future = self._threads.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self.pid is not None and not future.done():
                # The turn cannot be interrupted, its process can; the pool starts another.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            raise


class Sandbox:
    """Lends places in interpreters. One per worker; making it starts nothing."""

    def __init__(self, bounds: Bounds, binary: Path | None = None) -> None:
        self.bounds = bounds
        self._binary = binary
        self._places = asyncio.Semaphore(bounds.processes)
        self._starting = threading.Lock()
        self._pool: Monty | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._staying = 0
        self._leaving: set[asyncio.Future[None]] = set()
        self._ending: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def stay(self, modules: Modules, printed: Printed) -> AsyncGenerator[Stay]:
        """A place for one program. Raises `TooMany` when none is free for too long."""
        await self._take_place()
        try:
            threads = self._threads = self._threads or ThreadPoolExecutor(
                # A turn that is being ended still has its thread when its place is lent again.
                max_workers=2 * self.bounds.processes + 1,
                thread_name_prefix="program",
            )
            session = await _shielded(threads.submit(self._enter, modules), _leave)
        except BaseException:
            self._give_place()
            raise
        try:
            yield Stay(session, printed, threads)
        finally:
            # Not waited for by the program's caller; whoever wants the place next does.
            left = asyncio.wrap_future(threads.submit(_leave, session))
            self._leaving.add(left)
            left.add_done_callback(self._left)

    async def _take_place(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError as error:
            raise TooMany("All interpreters for programs are busy", retry_after=WAIT_SECONDS) from error
        self._staying += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _left(self, left: asyncio.Future[None]) -> None:
        self._leaving.discard(left)
        if not left.cancelled() and left.exception() is not None:
            log.warning("an interpreter could not be left: %s", left.exception())
        self._give_place()

    def _give_place(self) -> None:
        self._staying -= 1
        self._places.release()
        if not self._staying:
            self._ending = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end)

    def _enter(self, modules: Modules) -> MontySession:
        """In a thread: check a session out, starting the pool where it is not."""
        bounds = self.bounds
        with self._starting:
            if self._pool is None:
                self._pool = Monty(
                    binary_path=self._binary,
                    min_processes=0,
                    max_processes=bounds.processes,
                    checkout_timeout=WAIT_SECONDS,
                    request_timeout=bounds.seconds + SLEEP_SECONDS + 2 * GRACE_SECONDS,
                    max_checkouts_per_worker=PROGRAMS_A_PROCESS,
                    feed_duration_limit_grace=GRACE_SECONDS,
                    turn_duration_limit_grace=GRACE_SECONDS,
                ).__enter__()
            pool = self._pool
        limits: ResourceLimits = {
            "max_feed_duration_secs": bounds.seconds,
            "max_memory": bounds.memory_bytes,
            "max_suspensions": bounds.calls + TURNS_OF_OTHERS,
            "max_total_sleep_secs": SLEEP_SECONDS,
        }
        return pool.checkout(
            script_name=SCRIPT,
            limits=limits,
            type_check=True,
            type_check_format="concise",
            os_policy={"sleep": "system", "sleep_system_max": SLEEP_SECONDS},
            external_modules=modules,
        ).__enter__()

    def _end(self) -> None:
        """Nobody was here for a while: end the processes."""
        pool, self._pool = self._pool, None
        if pool is not None and self._threads is not None:
            self._threads.submit(pool.__exit__, None, None, None)

    async def close(self) -> None:
        """End everything, without waiting long."""
        threads = self._threads
        if threads is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS + 2):
                while self._leaving:
                    await asyncio.wait(self._leaving)
                pool, self._pool = self._pool, None
                if pool is not None:
                    await asyncio.wrap_future(threads.submit(pool.__exit__, None, None, None))
        if self._ending is not None:
            self._ending.cancel()
        threads.shutdown(wait=False, cancel_futures=True)


async def _shielded(entering: Future[MontySession], leave: Callable[[MontySession], None]) -> MontySession:
    """The session, once it is there; when nobody wants it any more, it is left as soon as it is."""
    try:
        return await asyncio.shield(asyncio.wrap_future(entering))
    except asyncio.CancelledError:
        entering.add_done_callback(lambda done: None if done.exception() else leave(done.result()))
        raise


def _leave(session: MontySession) -> None:
    session.__exit__(None, None, None)
