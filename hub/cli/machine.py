"""What `doctor` looks at without the hub: whether this machine can run one, and whether this home can be started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hub.cli.sockets import listen
from hub.runner.sandbox.bubblewrap import BubblewrapSandbox
from hub.settings import Settings

LEAST_PYTHON, NEXT_PYTHON = (3, 11), (3, 14)
LEAST_NODE = 22
LEAST_FREE_BYTES = 2**30
"""Audit, logs and packages need room; the same bound as the hub's own check."""
NODE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `hint` says what to do where it is not well."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def of_machine() -> list[Check]:
    """Python and sandboxes."""
    return [_python(), _sandbox()]


def of_start(settings: Settings) -> list[Check]:
    """What `up` needs of this home: its folder, room, and the address; and what some servers need beside."""
    return [_home(settings.home), _disk(settings.home), _address(settings), _node()]


def _python() -> Check:
    version = sys.version_info
    well = LEAST_PYTHON <= version[:2] < NEXT_PYTHON
    return Check(
        "python", well, f"{version.major}.{version.minor}.{version.micro}", "" if well else "Use Python 3.11 to 3.13."
    )


def _sandbox() -> Check:
    verdict = BubblewrapSandbox().probe()
    return Check("sandbox", verdict.ok, verdict.reason or "a real one was started", verdict.hint)


def _node() -> Check:
    """Only told, never a fault: a hub without npm: servers does without."""
    node = shutil.which("node")
    if node is None:
        return Check("node.js", True, "not on the PATH; only npm: servers need it")
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=NODE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("node.js", True, f"{node} does not start ({error}); only npm: servers need it")
    version = said.stdout.strip()
    major = version.removeprefix("v").partition(".")[0]
    fresh = major.isdecimal() and int(major) >= LEAST_NODE
    return Check("node.js", True, version if fresh else f"{version}; npm: servers may need {LEAST_NODE} or newer")


def _home(home: Path) -> Check:
    there = _nearest(home)
    well = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    detail = f"{home} can be written" if well else f"{there} cannot be written"
    return Check("home", well, detail, "" if well else "Correct its rights, or choose another with ENTREPOT_HOME.")


def _disk(home: Path) -> Check:
    free = shutil.disk_usage(_nearest(home)).free
    well = free >= LEAST_FREE_BYTES
    return Check("disk", well, f"{free // 2**20} MiB free", "" if well else "Make room: audit and logs need it.")


def _address(settings: Settings) -> Check:
    where = f"{settings.host}:{settings.port}"
    try:
        listen(settings.host, settings.port).close()
    except OSError as error:
        return Check(
            "address",
            False,
            f"{where} cannot be used: {error.strerror}",
            "Stop what uses it, or choose another port with ENTREPOT_PORT.",
        )
    return Check("address", True, f"{where} is free")


def _nearest(path: Path) -> Path:
    """The path, or the first folder above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
