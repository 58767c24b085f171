"""The seam of every sandbox: what may be asked of one, and what starting it takes.

A `Sandbox` only says how to start a command; whoever spawns the `Launch` owns the process. `run_sandboxed` in
`hub.runner.sandbox.run` is the owner for commands that are run once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one sandbox. `None` means no bound, which only long-lived servers should have."""

    memory_bytes: int = 512 * MEBIBYTE
    """Per process everywhere; of all processes together where control groups can be written."""
    processes: int = 64
    """Processes and threads together."""
    seconds: float | None = 60
    """Wall clock, kept by whoever owns the process."""
    cpu_seconds: int | None = 30
    """Per process."""
    disk_bytes: int = 256 * MEBIBYTE
    """Of /tmp and of the workspace, each; it counts as memory, since both live there."""
    files: int = 256
    """Open file descriptors of one process."""
    output_bytes: int | None = MEBIBYTE
    """Stdout and stderr together, kept by whoever reads them."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the host that the sandbox sees at `target` (absolute)."""

    source: Path
    target: Path
    writable: bool = False
    granted: bool = False
    """Somebody's own folder: it changes hands only when it is empty. Ours, and those given away, always do."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of rights. `network` shares the host's; otherwise there is only an empty loopback."""

    name: str
    network: bool
    limits: Limits
    python: bool = True
    """Whether our own interpreter and its installed packages are visible; never the hub's own code."""
    hostname: str = "sandbox"


class MemoryGroup(Protocol):
    """What bounds the memory of all processes of a sandbox together."""

    def killed_for_memory(self) -> bool:
        """Whether the bound was hit and a process died of it."""
        ...


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a sandboxed command: spawn exactly this, with exactly this environment.

    The spawner must pass `pass_fds` on, close its own copies once the process has started (`started`), and
    call `ended` after it is gone. Both may be called more than once. To end the sandbox early, SIGKILL the process:
    everything inside dies with it.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()
    cwd: Path | None = None
    on_end: tuple[Callable[[], object], ...] = ()
    group: MemoryGroup | None = None
    _open: set[int] = field(default_factory=set[int], repr=False)

    def started(self) -> None:
        """Close the spawner's copies of the descriptors."""
        while self._open:
            os.close(self._open.pop())

    def ended(self) -> None:
        """Give back what the sandbox held on the host: descriptors and control groups."""
        self.started()
        for clean in self.on_end:
            clean()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether sandboxes can be enforced on this machine; if not, why and what to do next."""

    ok: bool
    reason: str = ""
    hint: str = ""


class Sandbox(Protocol):
    """A way to enforce a profile on this machine."""

    def launch(
        self,
        argv: Sequence[str],
        *,
        profile: Profile,
        env: Mapping[str, str],
        binds: Sequence[Bind] = (),
        limits: Limits | None = None,
        cwd: Path | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Launch:
        """Say how to run `argv` (found inside the sandbox) with `env` as its whole environment.

        `limits` replaces the profile's. `cwd` is a path inside. `files` are laid into the workspace.
        Raises `Unavailable` where the profile cannot be enforced, `InvalidParams` for a bind that would open the host.
        """
        ...

    def probe(self) -> Verdict:
        """Start a real sandbox and look whether its walls stand. Takes up to a few seconds; blocks."""
        ...
