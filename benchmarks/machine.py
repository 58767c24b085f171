"""Processes and what they use: helpers started and ended here, CPU seconds and memory of a tree, who else is busy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson
import psutil

ROOT = Path(__file__).parents[1]
START_SECONDS = 20.0
MOCK = "benchmarks/mock.py"


@dataclass(frozen=True, slots=True)
class Helper:
    """A helper process and the port that it told."""

    pid: int
    port: int


@contextmanager
def helper(module: str, *arguments: str) -> Generator[Helper]:
    """Start `python -m benchmarks.MODULE`, read its port, end it at the end. Raises `RuntimeError`."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"benchmarks.{module} did not start")
        yield Helper(child.pid, int(orjson.loads(line)["port"]))
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)


def tree(pid: int, without: str = MOCK) -> list[psutil.Process]:
    """A process and all below it, less those whose command line holds `without`: the server, not the hub."""
    root = psutil.Process(pid)
    found = [root]
    for child in root.children(recursive=True):
        try:
            if not (without and _runs(child, without)):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _runs(process: psutil.Process, what: str) -> bool:
    """Whether the interpreter itself is this script; what only wraps it (a sandbox) belongs to the hub."""
    command = process.cmdline()
    return len(command) > 1 and any(part.endswith(what) for part in command[:3]) and "python" in command[0]


def worker(pid: int, number: int = 0) -> psutil.Process:
    """The process of one worker of a hub. Raises `LookupError`."""
    for child in psutil.Process(pid).children():
        command = child.cmdline()
        if "serve" in command and command[command.index("--worker") + 1] == str(number):
            return child
    raise LookupError(f"process {pid} has no worker {number}")


def place(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def opened(port: int) -> int:
    """Sessions that were opened at a mock server and not ended."""
    return int(httpx.get(f"http://127.0.0.1:{port}/sessions", timeout=10, trust_env=False).json()["open"])


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time so far; a process that is gone counts nothing."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_megabytes(processes: Iterable[psutil.Process]) -> float:
    """Resident memory of all of them; what they share is counted each time."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def busy_seconds(cpus: Sequence[int]) -> float:
    """CPU time that anybody used on these CPUs since the machine started."""
    times = psutil.cpu_times(percpu=True)
    return sum(sum(times[cpu]) - times[cpu].idle - getattr(times[cpu], "iowait", 0.0) for cpu in cpus)


def settle_on(cpu: str) -> list[int]:
    """Bind this process, and with it all it starts, to one CPU: `auto` (the idlest), its number, or `none`.

    On one CPU nothing waits for another to wake up, so windows differ less; the price is that calls a second include
    the load and the server. Returns the CPUs in use.
    """
    if not hasattr(os, "sched_setaffinity"):
        return list(range(psutil.cpu_count() or 1))
    allowed = sorted(os.sched_getaffinity(0))
    if cpu == "none":
        return allowed
    if cpu == "auto":
        before = [busy_seconds([one]) for one in allowed]
        time.sleep(0.5)
        used = [busy_seconds([one]) - earlier for one, earlier in zip(allowed, before, strict=True)]
        chosen = allowed[used.index(min(used))]
    else:
        chosen = int(cpu)
    os.sched_setaffinity(0, {chosen})
    return [chosen]


def describe(cpus: Sequence[int]) -> dict[str, str]:
    """The machine and the programs, in words."""
    versions = " ".join(f"{name} {_version(name)}" for name in ("uvicorn", "uvloop", "httptools", "aiohttp"))
    return {
        "cpu": _cpu_name(),
        "cpus": f"{psutil.cpu_count()} in the machine, bound to {', '.join(map(str, cpus))}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": f"{platform.python_version()}; {versions}",
        "commit": commit(),
        "load before": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def _version(name: str) -> str:

    return metadata.version(name)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def commit() -> str:
    """The commit of this checkout, marked when it has changes."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
