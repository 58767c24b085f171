"""Control groups, where we may write them: bounds on memory and processes of a whole sandbox, v1 and v2.

They are the only bound on a sandbox's *total*; rlimits count per process. A sandbox's first link joins its group by
itself, so no process runs outside it even for a moment.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.ids import new_id
from hub.runner.sandbox.base import Limits

PREFIX = "entrepot"
OWN_PROCESSES = 6
"""bubblewrap's two processes and the short links before the command count as well."""


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox's group: one folder (v2) or one for each controller (v1)."""

    folders: tuple[Path, ...]

    def killed_for_memory(self) -> bool:
        """Whether the kernel killed a process of the group because the group's memory was used up."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError, ValueError):
                    counts = dict(line.split(maxsplit=1) for line in (folder / name).read_text().splitlines())
                    if int(counts.get("oom_kill", "0")) > 0:
                        return True
        return False

    def remove(self) -> bool:
        """Remove the folders; False while a process of the group is still dying."""
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                try:
                    folder.rmdir()
                except OSError:
                    return False
        return True


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Where groups can be made on this machine. `version` 0 means nowhere."""

    version: int
    parents: tuple[Path, ...] = ()

    def make(self, limits: Limits) -> Group | None:
        """A new group with these bounds, or None where there are no control groups."""
        if not self.version:
            return None
        self.sweep()
        name = f"{PREFIX}-{os.getpid()}-{new_id(bits=40)}"
        folders = tuple(parent / name for parent in self.parents)
        for folder in folders:
            folder.mkdir(mode=0o755)
            self._bound(folder, limits)
        return Group(folders)

    def _bound(self, folder: Path, limits: Limits) -> None:
        processes = str(limits.processes + OWN_PROCESSES)
        memory = str(limits.memory_bytes)
        if self.version == 2:
            (folder / "memory.max").write_text(memory)
            _write_if_there(folder / "memory.swap.max", "0")
            _write_if_there(folder / "memory.oom.group", "1")
            (folder / "pids.max").write_text(processes)
            return
        if folder.parent.parent.name == "pids":
            (folder / "pids.max").write_text(processes)
            return
        (folder / "memory.limit_in_bytes").write_text(memory)
        _write_if_there(folder / "memory.memsw.limit_in_bytes", memory)

    def sweep(self) -> None:
        """Remove groups of ours that nobody is in and whose maker is gone."""
        for parent in self.parents:
            with contextlib.suppress(OSError):
                for folder in parent.iterdir():
                    maker = folder.name.split("-")[1] if folder.name.startswith(f"{PREFIX}-") else ""
                    if maker.isdigit() and not Path("/proc", maker).exists():
                        with contextlib.suppress(OSError):
                            folder.rmdir()


def _write_if_there(file: Path, text: str) -> None:
    if file.exists():
        with contextlib.suppress(OSError):
            file.write_text(text)


def find_control_groups(root: Path = Path("/sys/fs/cgroup")) -> ControlGroups:
    """Probe what can be written below `root`: v1 controllers first, then v2. Makes the parent groups."""
    parents = [folder for name in ("memory", "pids") if (folder := _v1_parent(root / name)) is not None]
    if len(parents) == 2:  # both or none: one bound alone would be taken for both
        return ControlGroups(1, tuple(parents))
    parent = _v2_parent(root)
    return ControlGroups(2, (parent,)) if parent is not None else ControlGroups(0)


def _v1_parent(controller: Path) -> Path | None:
    if not (controller / "cgroup.procs").exists() or (controller / "cgroup.controllers").exists():
        return None
    return _usable(controller / PREFIX, ())


def _v2_parent(root: Path) -> Path | None:
    try:
        offered = (root / "cgroup.controllers").read_text().split()
    except OSError:
        return None
    if not {"memory", "pids"} <= set(offered):
        return None
    with contextlib.suppress(OSError):
        (root / "cgroup.subtree_control").write_text("+memory +pids")
        return _usable(root / PREFIX, ("+memory +pids",))
    return None


def _usable(parent: Path, controls: Sequence[str]) -> Path | None:
    try:
        parent.mkdir(exist_ok=True)
        for control in controls:
            (parent / "cgroup.subtree_control").write_text(control)
        Path(tempfile.mkdtemp(prefix="probe", dir=parent)).rmdir()
    except OSError:
        return None
    return parent
