"""What no kernel limit of a plain user bounds: memory of all processes together, and the number of files.

Looked at from outside a few times a second; whoever owns the sandbox kills it when told. Control groups, where there
are any, act first and at once.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from hub.runner.sandbox.base import Bind, Limits

MOST_ENTRIES = 20_000
"""Files and folders in each file system of the sandbox: an empty file costs kernel memory that no size counts."""

PRIVATE_FOLDERS = ("workspace", "tmp", "dev/shm")

HOST_FOLDERS = (Path("/"), Path("/tmp"), Path("/dev"), Path("/dev/shm"))


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at one running sandbox; `pid` is the process that was spawned from the `Launch`."""

    pid: int
    limits: Limits
    binds: tuple[Bind, ...] = ()

    def overrun(self) -> str:
        """Which bound is passed: `memory`, `files`, `disk`, or nothing. Takes well under a millisecond usually."""
        try:
            inside = psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return ""
        memory = 0
        for process in inside:
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
        if memory > self.limits.memory_bytes + self.limits.memory_bytes // 8:
            return "memory"
        if inside and self._entries(inside[-1].pid) > MOST_ENTRIES:
            return "files"
        return self._overfull()

    def _entries(self, pid: int) -> int:
        most = 0
        for name in PRIVATE_FOLDERS:
            folder = f"/proc/{pid}/root/{name}"
            with contextlib.suppress(OSError):
                if os.stat(folder).st_dev in self._host_devices():
                    continue  # a bind, or the sandbox is still being set up and its root is ours
                state = os.statvfs(folder)
                most = max(most, state.f_files - state.f_ffree)
        return most

    def _host_devices(self) -> set[int]:
        folders = (*HOST_FOLDERS, *(bind.source for bind in self.binds))
        devices: set[int] = set()
        for folder in folders:
            with contextlib.suppress(OSError):
                devices.add(os.stat(folder).st_dev)
        return devices

    def _overfull(self) -> str:
        for bind in self.binds:
            if bind.writable:
                entries, size = measure(bind.source)
                if entries > MOST_ENTRIES:
                    return "files"
                if size > self.limits.disk_bytes:
                    return "disk"
        return ""


def measure(folder: Path) -> tuple[int, int]:
    """Entries and bytes below a folder, links not followed; stops counting past the bound on entries."""
    entries = size = 0
    waiting = [folder]
    while waiting and entries <= MOST_ENTRIES:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as listing:
            for entry in listing:
                entries += 1
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                if entries > MOST_ENTRIES:
                    break
    return entries, size
