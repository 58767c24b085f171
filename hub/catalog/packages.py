"""From a declaration to the command that runs it. Never through a shell; packages only in exact versions."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

import hub
from hub.catalog.manifest import ServerSpec, npm, pypi
from hub.errors import Unavailable

INSTALL_SECONDS = 300
"""A package with large wheels on a slow line."""

OPENAPI_SECONDS = 60
"""To fetch a long description and make its tools on a busy machine."""

Which = Callable[[str], str | None]


def which(program: str) -> str | None:
    """A program beside our own interpreter, which every sandbox shows, else on the PATH."""
    return shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


def is_shown(program: str) -> bool:
    """Whether every sandbox shows this program: one of the system's, or of our own interpreter's environment."""
    places = (Path("/usr"), Path("/bin"), Path(sys.prefix), Path(sys.base_prefix))
    return any(Path(program).is_relative_to(place) for place in places)


ENVIRONMENT = {
    "UV_SYSTEM_CERTS": "1",
    "UV_LINK_MODE": "copy",
    "UV_PYTHON_DOWNLOADS": "never",
    "npm_config_update_notifier": "false",
}
"""For every child, under what was declared: the machine's own certificates, as behind a company's proxy; no downloads
of interpreters."""


def command_for(spec: ServerSpec, folder: Path, find: Which = which) -> list[str]:
    """The command of a stdio server or package. Blocks: a Python package without uv is installed into `folder`.

    Raises `Unavailable` when what runs the package is not on this machine, or it cannot be installed.
    """
    if spec.command is not None:
        return list(spec.command)
    reference = spec.package or ""
    if (node := npm(reference)) is not None:
        name, version = node
        npx = find("npx")
        if npx is None or find("node") is None:
            raise Unavailable(
                "npm packages need Node.js, and `npx` is not on the PATH of the hub.",
                hint="Install Node.js 22 or newer and start the hub again, or use a pypi: package or a URL.",
            )
        return [npx, "-y", f"{name}@{version}", *spec.args]
    if (python := pypi(reference)) is not None:
        name, extras, version = python
        uv = find("uv")
        if uv is not None and (spec.sandbox == "trusted" or is_shown(uv)):
            return [
                uv,
                "tool",
                "run",
                "--python",
                sys.executable,
                "--no-build",
                "--from",
                f"{name}{extras}=={version}",
                *(word for wanted in spec.requirements for word in ("--with", wanted)),
                name,
                *spec.args,
            ]
        return [str(_installed(folder, name, extras, version, spec.requirements)), *spec.args]
    raise Unavailable(f"{reference!r} is not a package that can be started.")


def shown_for(spec: ServerSpec, command: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The folders and the environment that let a sandboxed package find its Node where a version manager put it."""
    if spec.sandbox == "trusted" or npm(spec.package or "") is None or is_shown(command[0]):
        return {}, {}
    node = which("node")
    if node is None or is_shown(node):
        return {}, {}
    folder = Path(node).resolve().parent.parent
    return {str(folder): "read"}, {"PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin"}


def openapi_child(spec: ServerSpec) -> dict[str, Any]:
    """What the runner keeps for an API that describes itself: the bundled server for such APIs.

    All of it goes through the environment: headers are secrets, and a URL's query may hold one.
    """
    code = Path(hub.__file__).resolve().parent.parent
    headers = {name: value.get_secret_value() for name, value in spec.headers.items()}
    env = {"PYTHONPATH": str(code), "ENTREPOT_OPENAPI_SPEC": spec.openapi or ""}
    if spec.base_url:
        env["ENTREPOT_OPENAPI_BASE_URL"] = spec.base_url
    if headers:
        env["ENTREPOT_OPENAPI_HEADERS"] = orjson.dumps(headers).decode()
    return {
        "command": [sys.executable, "-m", "servers.openapi"],
        "env": ENVIRONMENT | env,
        "sandbox": spec.sandbox,
        # Shown by itself: from a source tree the rest of our code stays hidden.
        "folders": {str(code / "servers"): "read"},
        "kind": "http",
        "start": "lazy",
        "start_seconds": OPENAPI_SECONDS,
    }


def _installed(folder: Path, name: str, extras: str, version: str, requirements: Sequence[str]) -> Path:
    """The console script of a package in an environment of its own, made at first use."""
    mark = hashlib.sha256(" ".join([extras, *requirements]).encode()).hexdigest()[:8]
    home = folder / f"{name}-{version}-{mark}"
    script, complete = home / "bin" / name, home / ".complete"
    if complete.exists():
        return script
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    # Wheels only: building from source would run the package's code here, outside any sandbox.
    wanted = f"{name}{extras}=={version}"
    _run([str(home / "bin/python"), "-m", "pip", "install", "-q", "--only-binary", ":all:", wanted, *requirements])
    if not script.exists():
        shutil.rmtree(home, ignore_errors=True)
        raise Unavailable(
            f"The package {name} {version} has no command called {name}.",
            hint="Install it yourself and register its command with `entrepot servers add NAME --stdio ...`.",
        )
    complete.touch()
    return script


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise Unavailable(f"The package could not be installed: {last[0][:300]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"The package could not be installed: {error}") from error
