"""How a run's process is started: through the runner's `POST /sandboxes`, which owns it and its walls.

Closing the connection kills the process and everything in it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import orjson

from agents.manifest import Manifest
from hub.errors import HubError, Unavailable

BORDER = "/border"
"""Where the border's folder appears inside."""
KEPT_LINES = 30
AGENTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Job:
    """What to start: the files to lay into the workspace, the environment, and the folder of the border's socket."""

    files: dict[str, str]
    env: dict[str, str]
    border: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended, and the last lines it wrote."""

    code: int | None
    reason: str
    tail: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """In one line, for the run's error."""
        said = " · ".join(line for line in self.tail if line)[-600:]
        return f"{self.reason or f'exit code {self.code}'}{f': {said}' if said else ''}"


class Sandboxes(Protocol):
    """Somewhere to run an agent's process."""

    async def run(self, job: Job) -> Ended:
        """Start the process and stay until it has ended; cancelling kills it. Raises `HubError`."""
        ...


class RunnerSandboxes:
    """The runner's sandboxes, over its socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def run(self, job: Job) -> Ended:
        """Start the harness under the profile `agent`. Raises `Unavailable` when the runner cannot."""
        wanted: dict[str, Any] = {
            "profile": "agent",
            "argv": [sys.executable, "-I", "-B", "harness.py"],
            "env": job.env,
            "files": job.files,
            "binds": [{"source": str(job.border), "target": BORDER, "writable": False}],
            "limits": {"seconds": job.seconds},
        }
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        timeout = httpx.Timeout(job.seconds + 30, connect=10)
        try:
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://runner", timeout=timeout) as client,
                client.stream("POST", "/sandboxes", json=wanted) as answer,
            ):
                if answer.status_code != 200:
                    told = (await answer.aread()).decode("utf-8", "replace")[:500]
                    raise Unavailable(f"The runner refused the sandbox ({answer.status_code}): {told}")
                return await _follow(answer)
        except httpx.HTTPError as error:
            raise Unavailable(
                "The runner that owns the sandboxes cannot be reached.", hint="Look at `entrepot doctor`."
            ) from error


async def _follow(answer: httpx.Response) -> Ended:
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    async for line in answer.aiter_lines():
        if not line.strip():
            continue
        said = orjson.loads(line)
        if "exit" in said:
            return Ended(said["exit"], str(said.get("reason") or ""), tuple(tail))
        tail.append(str(said.get("text", "")).rstrip())
    raise Unavailable("The runner closed the connection before the sandbox ended.")


BUILT_IN = ("__init__.py", "loop.py", "quoting.py", "findings.py")
"""What the built-in loop consists of."""


def job_for(manifest: Manifest, border: Path, seconds: float) -> Job:
    """The harness, the loop and the agent's own files; nothing else of ours is readable inside."""
    files = dict(manifest.files) | {"harness.py": (AGENTS / "harness.py").read_text("utf-8")}
    if not manifest.entry:
        # A coded agent gets none of these: a framework that it imports may be named `agents` as well.
        files |= {f"agents/{name}": (AGENTS / name).read_text("utf-8") for name in BUILT_IN}
    env = {"ENTREPOT_BORDER": f"{BORDER}/border.sock", "PYTHONDONTWRITEBYTECODE": "1"}
    if manifest.entry:
        env["ENTREPOT_ENTRY"] = manifest.entry
    return Job(files, env, border, seconds)


async def killed(process: asyncio.Task[Ended]) -> None:
    """Cancel a running sandbox and wait, bounded, until it is gone."""
    process.cancel()
    await asyncio.wait({process}, timeout=15)
    if process.done() and not process.cancelled() and isinstance(process.exception(), HubError):
        return
