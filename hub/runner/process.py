"""One operating-system process with everything below it: started under a shepherd, read, written, ended.

The owner calls `stop()`; the kernel does it when the runner is killed (see shepherd.py). Nothing here restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hub.runner.childlog import ChildLog
from hub.runner.sandbox.base import Launch

SHEPHERD = Path(__file__).with_name("shepherd.py")

NETWORK = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "npm_config_registry", "NPM_CONFIG_REGISTRY", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX",
)  # fmt: skip
"""How the outside is reached: all that a sandboxed server sees of the runner's environment."""

PASSED_ON = (
    "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "npm_config_cache", *NETWORK,
)  # fmt: skip
"""All that a trusted child sees of it: nothing of ours, no secret."""

READ_BYTES = 2**16
GRACE_SECONDS = 1.5
"""Between closing stdin, SIGTERM and SIGKILL; two of them fit into the five seconds that the whole runner may take."""


class LineTooLong(Exception):
    """The process printed a line beyond the bound; the stream can no longer be understood."""


@dataclass(frozen=True)
class Usage:
    """What a process tree takes: bytes of memory, seconds of CPU, the ids in it."""

    memory: int = 0
    cpu: float = 0.0
    pids: list[int] = field(default_factory=list[int])


def plain_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of an unsandboxed child: the passed-on names, then its own."""
    return passed_on(PASSED_ON) | dict(extra)


def passed_on(names: tuple[str, ...]) -> dict[str, str]:
    """These names of our own environment, where they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


class Process:
    """A running child. `ended` is set once nothing of it is left."""

    def __init__(self, inner: asyncio.subprocess.Process, launch: Launch, lifeline: int, log: ChildLog) -> None:
        self._inner = inner
        self._launch = launch
        self._lifeline: int | None = lifeline
        self._log = log
        self.pid = inner.pid
        self.started = time.time()
        self.ended = asyncio.Event()
        self.code: int | None = None
        self._errors = asyncio.create_task(self._drain_errors())
        self._waiter = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, launch: Launch, log: ChildLog, *, merged: bool = False) -> Process:
        """Start it; `merged` sends its stdout to the log too. Raises OSError when no process can be made."""
        read, write = os.pipe()
        try:
            inner = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(SHEPHERD), str(read), *launch.argv,
                stdin=asyncio.subprocess.DEVNULL if merged else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT if merged else asyncio.subprocess.PIPE,
                env=dict(launch.env), cwd=launch.cwd, pass_fds=(read, *launch.pass_fds),
                start_new_session=True, limit=READ_BYTES * 4,
            )  # fmt: skip
        except BaseException:
            os.close(write)
            launch.ended()
            raise
        finally:
            os.close(read)
        launch.started()
        return cls(inner, launch, write, log)

    async def write(self, line: bytes) -> None:
        """Write to stdin. Raises ConnectionError when the process no longer reads."""
        stdin = self._inner.stdin
        if stdin is None or self.ended.is_set():
            raise ConnectionResetError("the process has ended")
        stdin.write(line)
        await stdin.drain()

    async def lines(self, longest: int) -> AsyncGenerator[bytes]:
        """The lines of stdout without their ends. Raises LineTooLong beyond `longest` bytes."""
        assert self._inner.stdout is not None
        async for line in split_lines(self._inner.stdout, longest):
            yield line

    def last_words(self) -> str:
        """What it printed last, redacted."""
        return self._log.last_words()

    def usage(self) -> Usage:
        """Memory, CPU and ids of everything below the shepherd; empty when it is gone."""
        try:
            below = psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return Usage()
        memory, cpu = 0, 0.0
        pids: list[int] = []
        for process in below:
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                memory += process.memory_info().rss
                cpu += times.user + times.system
                pids.append(process.pid)
        return Usage(memory, cpu, pids)

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End it: stdin closed, then SIGTERM, then SIGKILL, `grace` seconds apart. Returns when nothing is left."""
        if self._inner.stdin is not None:
            self._inner.stdin.close()
            if await self._gone(grace):
                return
        self._tell(b"T")
        if not await self._gone(grace):
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL for everything below, at once. Returns when nothing is left."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if not await self._gone(5):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._gone(1)

    async def _gone(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True

    def _tell(self, word: bytes) -> None:
        if self._lifeline is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lifeline, word)

    async def _wait(self) -> None:
        code = await self._inner.wait()
        self.code = 128 - code if code < 0 else code
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        self._launch.ended()
        await asyncio.wait([self._errors], timeout=0.5)  # its last words are worth waiting for
        self.ended.set()

    async def _drain_errors(self) -> None:
        reader = self._inner.stderr or (self._inner.stdout if self._inner.stdin is None else None)
        if reader is None:
            return
        async for line in cut_lines(reader, READ_BYTES):
            self._log.write(line.decode(errors="replace"))


async def split_lines(reader: asyncio.StreamReader, longest: int) -> AsyncGenerator[bytes]:
    """Lines without their ends, empty ones left out. Raises LineTooLong."""
    parts: list[bytes] = []
    size = 0
    while chunk := await reader.read(READ_BYTES):
        head, *rest = chunk.split(b"\n")
        parts.append(head)
        size += len(head)
        if size > longest:
            raise LineTooLong
        if not rest:
            continue
        if line := b"".join(parts).strip():
            yield line
        for line in rest[:-1]:
            if stripped := line.strip():
                yield stripped
        parts, size = [rest[-1]], len(rest[-1])
    if line := b"".join(parts).strip():
        yield line


async def cut_lines(reader: asyncio.StreamReader, longest: int) -> AsyncGenerator[bytes]:
    """Lines without their ends, each cut at about `longest` bytes, so that no printer can fill our memory."""
    held = b""
    while chunk := await reader.read(READ_BYTES):
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(held) > longest:
            yield held
            held = b""
    if held:
        yield held
