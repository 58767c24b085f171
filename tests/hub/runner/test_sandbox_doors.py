"""Every known door out of a sandbox is tried, as root and as a plain user, and found closed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.hub.runner.sandbox_doors import ABUSES, DOORS

CODE = Path(__file__).resolve().parents[3]
PACKAGES = Path(psutil.__file__).resolve().parent.parent
CANARY = Path("/tmp/hub_canary_secret")
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
USERS = ("root", "plain")
REASONS = {
    "res-output": {"output"},
    "res-output-stderr": {"output"},
    "res-files": {"files"},
    "res-cpu": {"cpu"},
    "res-sleep": {"time"},
    "res-closed-pipes": {"time"},
    "res-fork-bomb": {"time", "memory"},
}
"""Where the door must have been closed by that bound, and by no accident."""


@functools.cache
def shared_doors() -> dict[str, str]:
    """The doors that come as code, or none where their folder is not known."""
    folder = os.environ.get("ENTREPOT_TEST_DATA")
    file = Path(folder or "/nonexistent", "sandbox", "probes.json")
    return {probe["id"]: probe["code"] for probe in json.loads(file.read_text())} if file.exists() else {}


def door_ids() -> list[str]:
    """All doors, those of the shared file included where it is there."""
    return sorted({*shared_doors(), *DOORS, *ABUSES})


def command_as(user: str) -> tuple[list[str], dict[str, str]]:
    """How to start the driver as that user; skips where this machine or this user cannot."""
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{CODE}:{PACKAGES}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HUB_SECRET": "canary",
        "OPENAI_API_KEY": "canary",
    }
    module = ["-m", "tests.hub.runner.sandbox_driver"]
    if not sys.platform.startswith("linux"):
        pytest.skip("sandboxes need Linux")
    if os.geteuid() != 0:
        if user == "root":
            pytest.skip("not root: the same doors are tried as this plain user")
        return [sys.executable, *module], environ
    if user == "root":
        return [sys.executable, *module], environ
    if shutil.which("setpriv") is None or not Path(SYSTEM_PYTHON).exists():
        pytest.skip("root cannot become a plain user here: setpriv or /usr/bin/python3 is missing")
    change = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    able = subprocess.run(
        [*change, SYSTEM_PYTHON, "-c", "import hub.runner.sandbox.run"], env=environ, capture_output=True, check=False
    )
    if able.returncode:
        pytest.skip(f"a plain user cannot load the sandbox here: {able.stderr.decode()[-200:]}")
    return [*change, SYSTEM_PYTHON, *module], environ


@functools.cache
def tried_as(user: str) -> dict[str, Any]:
    """What came of all doors, tried once for each user with everything in place that a door could reach."""
    command, environ = command_as(user)
    abstract = f"hub-canary-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{abstract}")
        unix.listen()
        places = {
            "@CODE@": str(CODE),
            "@SITE@": str(PACKAGES),
            "@PORT@": str(tcp.getsockname()[1]),
            "@ABSTRACT@": abstract,
        }
        doors: list[dict[str, Any]] = [{"id": name, "code": code} for name, code in shared_doors().items()]
        for name, code in DOORS.items():
            doors.append({"id": name, "code": functools.reduce(lambda c, p: c.replace(*p), places.items(), code)})
        doors += [{"id": name, "code": "", **abuse} for name, abuse in ABUSES.items()]
        CANARY.write_text("secret")
        sleeper = subprocess.Popen(["hub_canary_sleep", "600"], executable="/bin/sleep")
        try:
            done = subprocess.run(
                command, cwd=CODE, env=environ, input=json.dumps(doors), capture_output=True, text=True, timeout=120
            )
        finally:
            sleeper.kill()
            sleeper.wait()
            CANARY.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"stderr": done.stderr}


def outcomes(user: str) -> dict[str, Any]:
    """The outcomes; skips with the reason where no sandbox can stand on this machine."""
    told = tried_as(user)
    if not told["probe"]["ok"]:
        pytest.skip(f"no sandbox on this machine: {told['probe']['reason']}")
    return told["outcomes"]


@pytest.mark.parametrize("user", USERS)
def test_the_probe_says_that_sandboxes_stand_here(user: str) -> None:
    assert outcomes(user)


def test_the_doors_that_come_as_code_were_found() -> None:
    if not os.environ.get("ENTREPOT_TEST_DATA"):
        pytest.skip("set ENTREPOT_TEST_DATA to the evaluation data to try the shared doors as well")
    assert len(shared_doors()) > 25


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("door", door_ids())
def test_the_door_is_closed(door: str, user: str) -> None:
    outcome = outcomes(user)[door]
    assert "ESCAPED" not in outcome["stdout"]
    if door in REASONS:
        assert outcome["reason"] in REASONS[door]
    elif door not in ABUSES:
        assert outcome["reason"] == "exit", outcome
        assert outcome["stdout"], outcome["stderr"]


@pytest.mark.parametrize("user", USERS)
def test_nothing_that_was_written_inside_is_on_the_host(user: str) -> None:
    assert outcomes(user)["fs-write-host-tmp"]["stdout"] == "WROTE\n"
    for name in ("hub_probe_written", "hub_probe_dotdot", "hub_probe_link", "session_marker_probe"):
        assert not Path(tempfile.gettempdir(), name).exists()


@pytest.mark.parametrize("user", USERS)
def test_a_daemon_that_forks_twice_does_not_outlive_its_sandbox(user: str) -> None:
    assert outcomes(user)["res-daemon"]["stdout"] == "RAN\n"
    for process in psutil.process_iter(["cmdline"]):
        assert "hub_daemon_probe" not in (process.info["cmdline"] or [])


@pytest.mark.parametrize("user", USERS)
def test_the_runner_does_not_grow_with_what_a_sandbox_writes(user: str) -> None:
    grown = [outcome["grown"] for outcome in outcomes(user).values()]
    assert max(grown) < 200 * 2**20


@pytest.mark.parametrize("user", USERS)
def test_orphans_inside_a_sandbox_are_reaped(user: str) -> None:
    assert outcomes(user)["res-zombies"]["stdout"] == "RAN\n"


@pytest.mark.parametrize("user", USERS)
def test_no_exit_status_gets_lost(user: str) -> None:
    outcomes(user)
    assert "Unknown child process" not in tried_as(user)["stderr"]
