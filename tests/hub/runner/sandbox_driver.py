"""Runs doors in the sandbox as whoever starts it, and prints what came of each as JSON.

A program of its own, so that the same doors can be tried as root and as a plain user. Standard input is a list of
`{"id", "code", "profile"?, "limits"?, "files"?, "binds"?, "argv"?}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from hub.runner.sandbox.base import Bind, Limits
from hub.runner.sandbox.bubblewrap import BubblewrapSandbox
from hub.runner.sandbox.profiles import profile_named
from hub.runner.sandbox.run import Exit, run_sandboxed

DOOR_LIMITS = {"memory_bytes": 256 * 2**20, "seconds": 10, "cpu_seconds": 2, "disk_bytes": 64 * 2**20}


def most_memory() -> int:
    """The most bytes that this program ever held. `getrusage` would count those of whoever forked it as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


STARTED_WITH = most_memory()


async def try_door(sandbox: BubblewrapSandbox, door: dict[str, Any]) -> dict[str, Any]:
    """One door: its output, its end, and how large we grew."""
    argv = door.get("argv") or ["python3", "-I", "-c", door["code"]]
    outcome: dict[str, Any] = {"stdout": "", "stderr": "", "code": None, "reason": None}
    run = run_sandboxed(
        sandbox,
        argv,
        profile=profile_named(door.get("profile", "code")),
        env=door.get("env", {}),
        files=door.get("files"),
        binds=[Bind(Path(source), Path(target), writable) for source, target, writable in door.get("binds", [])],
        limits=Limits(**(DOOR_LIMITS | door.get("limits", {}))),
    )
    async with contextlib.aclosing(run):
        async for piece in run:
            if isinstance(piece, Exit):
                outcome |= {"code": piece.code, "reason": piece.reason}
            else:
                outcome[piece.stream] += piece.text
    outcome["grown"] = most_memory() - STARTED_WITH
    outcome["stdout"], outcome["stderr"] = outcome["stdout"][-4000:], outcome["stderr"][-2000:]
    return outcome


async def main() -> None:
    """Try all doors, two at a time."""
    sandbox = BubblewrapSandbox()
    turn = asyncio.Semaphore(2)
    outcomes: dict[str, Any] = {}

    async def one(door: dict[str, Any]) -> None:
        async with turn:
            outcomes[door["id"]] = await try_door(sandbox, door)

    doors = json.load(sys.stdin)
    await asyncio.gather(*(one(door) for door in doors))
    verdict = sandbox.probe()
    json.dump({"outcomes": outcomes, "probe": {"ok": verdict.ok, "reason": verdict.reason}}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
