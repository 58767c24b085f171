"""Stands over one child and everything that it spawns, so that nothing outlives the runner.

Run by path with `python -I -S`, so it imports only the standard library: `shepherd.py LIFELINE COMMAND...`.
LIFELINE is the read end of a pipe that the runner holds: a byte `T` asks the child to end, the end of the pipe
(closed, or the runner was killed) kills all. As subreaper it inherits every orphan below it and leaves only when
none is left, so that its exit is the proof.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

SET_CHILD_SUBREAPER = 36
SET_PDEATHSIG = 1
KILL_SECONDS = 10.0
"""How long to go on killing: a process in uninterruptible sleep must not keep this one for ever."""


def control(option: int, value: int) -> None:
    """Call prctl(2); does nothing where the system has none."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes  # noqa: PLC0415  only needed, and only dependable, on Linux

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """The ids of all processes below `root`, from /proc."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path("/proc", entry, "stat").read_text(errors="replace")
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def strike(main: int, number: int) -> None:
    """Send a signal to the child's group and to all descendants, those that left the group included."""
    with contextlib.suppress(OSError):
        os.killpg(main, number)
    below = descendants(os.getpid()) if os.path.isdir("/proc/self") else []
    for pid in below:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def reap() -> dict[int, int] | None:
    """Collect all that have ended, as {pid: code}; None when no descendant is left."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended or None
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def slaughter(main: int, code: int) -> int:
    """Kill until nothing is left below; the child's own exit code when it is seen on the way."""
    end = time.monotonic() + KILL_SECONDS
    pause = 0.001
    while time.monotonic() < end:
        strike(main, signal.SIGKILL)
        ended = reap()
        if ended is None:
            break
        code = ended.get(main, code)
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return code


def become(command: list[str], lifeline: int, shepherd: int) -> None:
    """Turn the forked process into the child; never returns."""
    try:
        os.setpgid(0, 0)
        os.close(lifeline)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        control(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == shepherd:
            os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot start {command[0]!r}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def watch(main: int, lifeline: int, wakeup: int) -> int:
    """Wait for the child's end or the lifeline's; its exit code, negative for a signal."""
    while True:
        ready, _, _ = select.select([lifeline, wakeup], [], [])
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 512)
            ended = reap()
            if ended is None or main in ended:
                return slaughter(main, (ended or {}).get(main, 0))
        if lifeline in ready:
            if os.read(lifeline, 1) == b"T":
                strike(main, signal.SIGTERM)
                continue
            return slaughter(main, -signal.SIGKILL)


def noticed(number: int, frame: object) -> None:
    """A handler that is there only for the wake-up descriptor to be written."""


def shepherd(lifeline: int, command: list[str]) -> int:
    """Start the command and stay until it, and all that it started, is gone."""
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wakeup, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, noticed)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    control(SET_CHILD_SUBREAPER, 1)
    own = os.getpid()
    main = os.fork()
    if main == 0:
        become(command, lifeline, own)
    with contextlib.suppress(OSError):
        os.setpgid(main, main)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the child's pipes must end when the child's copies do
        os.dup2(nothing, descriptor)
    return watch(main, lifeline, wakeup)


if __name__ == "__main__":
    result = shepherd(int(sys.argv[1]), sys.argv[2:])
    os._exit(result if result >= 0 else 128 - result)
