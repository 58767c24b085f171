"""A folder that a sandbox and the host share: files in, results out, and nothing that was planted gets followed.

What the sandbox leaves is hostile: symlinks to host files, pipes that never end, a million names. Results are opened
below the folder without following any link, must be regular files with one name, and are bounded in number and size.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from hub.errors import InvalidParams, TooLarge
from hub.runner.sandbox.base import MEBIBYTE, Bind
from hub.runner.sandbox.root import WORKSPACE

DEEPEST = 16
"""Folders below folders that are looked into."""

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Non-blocking, since opening a pipe would otherwise wait for a writer for ever."""


@dataclass(frozen=True, slots=True)
class Results:
    """What was collected, and what was refused with its reason (`link`, `special`, `size`, `number`, `depth`)."""

    files: dict[str, bytes]
    refused: dict[str, str]


class Workspace:
    """A private folder of the host for one sandbox; gone when the block ends."""

    def __init__(self, *, parent: Path | None = None, most_files: int = 200, most_bytes: int = 16 * MEBIBYTE) -> None:
        """`most_bytes` bounds all files together, on the way in and on the way out."""
        self._parent = parent
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        """Make the folder, mode 0700."""
        self._folder = Path(tempfile.mkdtemp(prefix="entrepot-workspace-", dir=self._parent))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder with all that was left in it; `rmtree` follows no link."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def folder(self) -> Path:
        """Where it lies on the host. Raises `RuntimeError` outside the block."""
        if self._folder is None:
            raise RuntimeError("the workspace is not open")
        return self._folder

    @property
    def bind(self) -> Bind:
        """The bind that makes it the sandbox's workspace."""
        return Bind(self.folder, WORKSPACE, writable=True)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Lay files in before the sandbox starts. Raises `InvalidParams` for a path that leaves the folder."""
        if len(files) > self._most_files or sum(map(len, files.values())) > self._most_bytes:
            raise TooLarge(f"a workspace takes at most {self._most_files} files of {self._most_bytes} bytes together")
        for name, content in files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
                raise InvalidParams(f"{name!r} is no path inside the workspace")
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def collect(self) -> Results:
        """Take the results out; to be called when the sandbox is gone. Raises nothing for what was planted."""
        found = Results({}, {})
        top = os.open(self.folder, OPEN_FOLDER)
        try:
            self._collect(top, PurePosixPath(), found)
        finally:
            os.close(top)
        return found

    def _collect(self, folder: int, path: PurePosixPath, found: Results) -> None:
        with os.scandir(folder) as listing:
            # One name more than may be taken: enough to know that there were too many.
            names = sorted(entry.name for entry, _ in zip(listing, range(self._most_files + 1), strict=False))
        for name in names:
            if len(found.files) + len(found.refused) >= self._most_files:
                found.refused[str(path / name)] = "number"
                return
            self._take(folder, name, path / name, found)

    def _take(self, folder: int, name: str, path: PurePosixPath, found: Results) -> None:
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            found.refused[str(path)] = "link"
        elif stat.S_ISDIR(kind):
            if len(path.parts) > DEEPEST:
                found.refused[str(path)] = "depth"
                return
            below = os.open(name, OPEN_FOLDER, dir_fd=folder)
            try:
                self._collect(below, path, found)
            finally:
                os.close(below)
        elif stat.S_ISREG(kind):
            self._read(folder, name, path, found)
        else:
            found.refused[str(path)] = "special"

    def _read(self, folder: int, name: str, path: PurePosixPath, found: Results) -> None:
        descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            left = self._most_bytes - sum(map(len, found.files.values()))
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                found.refused[str(path)] = "special"
            elif state.st_size > left:
                found.refused[str(path)] = "size"
            else:
                content = file.read(left + 1)
                if len(content) > left:
                    found.refused[str(path)] = "size"
                else:
                    found.files[str(path)] = content
