"""Runs one command in a sandbox and owns it to the end: time, output and what it may use up.

The command's namespace dies with the process that is spawned here, so killing that one process is killing all.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio

from hub.runner.sandbox.base import Bind, Launch, Limits, Profile, Sandbox
from hub.runner.sandbox.watch import Watch

CHUNK_BYTES = 64 * 1024
LOOK_SECONDS = 0.05
REAP_SECONDS = 10
"""How long a killed sandbox may take to be gone before we stop waiting for its pipes."""

Reason = Literal["exit", "signal", "time", "output", "memory", "files", "disk", "cpu"]


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what the command wrote."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How the command ended. `code` is the shell's: 128 + the signal's number where a signal ended it."""

    code: int
    reason: Reason


async def run_sandboxed(
    sandbox: Sandbox,
    argv: Sequence[str],
    *,
    profile: Profile,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    binds: Sequence[Bind] = (),
    limits: Limits | None = None,
    cwd: Path | None = None,
) -> AsyncGenerator[Output | Exit, None]:
    """Yield the output as it comes and the `Exit` last; closing the generator early kills the sandbox.

    Wrap it in `contextlib.aclosing`. Raises what `Sandbox.launch` raises, before anything starts.
    """
    limits = limits or profile.limits
    launch = sandbox.launch(
        argv,
        profile=profile,
        env=env or {},
        binds=binds,
        limits=limits,
        cwd=cwd,
        files={name: text.encode() for name, text in (files or {}).items()},
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *launch.argv,
            env=dict(launch.env),
            pass_fds=launch.pass_fds,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=CHUNK_BYTES,
        )
    except BaseException:
        launch.ended()
        raise
    launch.started()
    run = _Run(process, launch, limits, tuple(binds))
    try:
        async for piece in run.pieces():
            yield piece
        yield run.exit()
    finally:
        with anyio.CancelScope(shield=True):
            await run.end()


class _Run:
    """One running command: two readers and a watcher, all ended in `end`."""

    def __init__(
        self, process: asyncio.subprocess.Process, launch: Launch, limits: Limits, binds: tuple[Bind, ...]
    ) -> None:
        self._process = process
        self._launch = launch
        self._limits = limits
        self._watch = Watch(process.pid, limits, binds)
        # Popen's own kill would poll first and take the exit status away from asyncio's watcher.
        self._handle: int | None = None
        with contextlib.suppress(ProcessLookupError):
            self._handle = os.pidfd_open(process.pid)
        self._killed_for: Reason | None = None
        self._left = limits.output_bytes
        self._queue: asyncio.Queue[Output | None] = asyncio.Queue(maxsize=8)
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read("stdout", process.stdout)),
            asyncio.create_task(self._read("stderr", process.stderr)),
        ]
        self._tasks = [asyncio.create_task(self._guard()), asyncio.create_task(self._close_queue())]

    async def pieces(self) -> AsyncGenerator[Output, None]:
        """The output, until both pipes are at their end: then nobody inside lives who could still write."""
        while (piece := await self._queue.get()) is not None:
            yield piece
        await self._process.wait()  # the guard ends this wait, for one that closed its pipes and runs on

    def exit(self) -> Exit:
        """How it ended; to be asked when `pieces` is through."""
        code = self._process.returncode
        code = 128 + signal.SIGKILL if code is None else 128 - code if code < 0 else code
        if self._killed_for is not None:
            return Exit(code, self._killed_for)
        if self._launch.group is not None and self._launch.group.killed_for_memory():
            return Exit(code, "memory")
        if code == 128 + signal.SIGXCPU or (code == 128 + signal.SIGKILL and self._limits.cpu_seconds is not None):
            return Exit(code, "cpu")
        return Exit(code, "signal" if code > 128 else "exit")

    async def end(self) -> None:
        """Kill what still runs, wait for it within a bound, and give everything back."""
        self._kill(None)
        for task in (*self._readers, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._readers, *self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await self._process.wait()
                for pipe in (self._process.stdout, self._process.stderr):
                    while pipe is not None and await pipe.read(CHUNK_BYTES):
                        pass  # unread output would keep the pipe, and its transport, open
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._launch.ended()

    def _kill(self, reason: Reason | None) -> None:
        if self._process.returncode is not None:
            return
        self._killed_for = self._killed_for or reason
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def _read(self, stream: Literal["stdout", "stderr"], pipe: asyncio.StreamReader) -> None:
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        while chunk := await pipe.read(CHUNK_BYTES):
            if self._left is not None:
                chunk, over = chunk[: self._left], len(chunk) > self._left
                self._left -= len(chunk)
                if over:
                    self._kill("output")
            if text := decode(chunk):
                await self._queue.put(Output(stream, text))
        if text := decode(b"", True):
            await self._queue.put(Output(stream, text))

    async def _close_queue(self) -> None:
        await asyncio.gather(*self._readers)
        await self._queue.put(None)

    async def _guard(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = None if self._limits.seconds is None else loop.time() + self._limits.seconds
        while self._process.returncode is None:
            if deadline is not None and loop.time() >= deadline:
                self._kill("time")
                return
            match self._watch.overrun():
                case "memory" | "files" | "disk" as reason:
                    self._kill(reason)
                    return
                case _:
                    await asyncio.sleep(LOOK_SECONDS)
