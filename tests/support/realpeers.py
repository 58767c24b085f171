"""Real peers that no one here wrote: the servers as they are declared, the clients as they are installed.

What must come from a registry is skipped with its reason where the registry cannot be reached, except in CI.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import nodejs

EVERYTHING = "npm:@modelcontextprotocol/server-everything@2026.8.31"
FILESYSTEM = "npm:@modelcontextprotocol/server-filesystem@2026.8.31"
MEMORY = "npm:@modelcontextprotocol/server-memory@2026.8.31"
TIME = "pypi:mcp-server-time==2025.9.25"
GIT = "pypi:mcp-server-git==2025.9.25"
BEFORE_2 = ("--with", "mcp<2")
"""Both Python servers import what the SDK's second version no longer has, and say so nowhere."""

OLD_SDK = "mcp==1.28.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "entrepot" / "tests"
REACH_SECONDS = 10
INSTALL_SECONDS = 240


def need_registry(which: str) -> None:
    """Go on only where the registry answers: `npm` or `pypi`. Fails instead of skipping when CI is set."""
    url = {
        "npm": os.environ.get("NPM_CONFIG_REGISTRY") or "https://registry.npmjs.org/",
        "pypi": os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple/",
    }[which]
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/{'mcp/' if which == 'pypi' else 'npm'}", timeout=REACH_SECONDS):
            return
    except OSError as error:
        _give_up(f"the {which} registry at {url} cannot be reached: {error}")


def old_sdk() -> Path:
    """The interpreter of an environment that holds the SDK's first version; made at first use and kept."""
    home = CACHE / OLD_SDK.replace("==", "-")
    python = home / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / ".complete").exists():
            return python
        need_registry("pypi")
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(home)])
        uv = Path(sys.executable).with_name("uv")
        _run([str(uv), "pip", "install", "-q", "--no-build", "--python", str(python), OLD_SDK])
        (home / ".complete").touch()
    return python


def inspector(url: str, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the inspector's command line against a streamable HTTP URL."""
    try:
        command = nodejs.command(
            "@modelcontextprotocol/inspector", "clients/launcher/build/index.js", "--cli", url, "--transport", "http"
        )
    except RuntimeError as error:
        _give_up(str(error))
    header = ("--header", f"Authorization: Bearer {token}") if token else ()
    return subprocess.run(
        [*command, *header, *arguments],
        env=nodejs.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
