"""What is installed is whole: the wheel carries every file, the image is sound, its steps work without an engine."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from tests.docs.blocks import ROOT

PACKAGES = ("hub", "servers", "agents", "registry")
STEPS = ROOT / "deploy" / "docker-steps.sh"
LOCKS = ("runtime.lock", "local.lock", "build.lock", "dev.lock")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what the build needs."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return next((folder / "dist").glob("*.whl"))


def test_the_wheel_carries_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
        described = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        declared = archive.read(described[0]).decode()
    assert carried == wanted
    assert "entrepot = hub.cli:main" in declared
    assert {"agents = agents.part:part", "registry = registry.part:part"} <= set(declared.splitlines())


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_by_digest_and_names_no_index(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    pinned = re.findall(r"^[a-z0-9][\w.\[\],-]*==", text, re.MULTILINE)
    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)


def test_the_locks_agree() -> None:
    def versions(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9][\w.\[\],-]*==\S+)", text, re.MULTILINE))

    assert versions("runtime.lock") <= versions("local.lock") <= versions("dev.lock")
    assert versions("build.lock") <= versions("dev.lock")


def test_the_image_is_linted() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint comes for x86-64 Linux only")
    ran = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_image_runs_as_a_plain_user_and_looks_at_its_health() -> None:
    steps = [(step["instruction"], step["value"]) for step in _dockerfile()]
    names = [name for name, _ in steps]
    last = len(names) - 1 - names[::-1].index("FROM")
    final = dict(steps[last:])
    assert names.count("FROM") == 2
    assert final["USER"] not in ("root", "0")
    assert "/readyz" in final["HEALTHCHECK"]
    assert final["EXPOSE"] == "4180"
    assert final["VOLUME"] == "/data"
    assert "ENTREPOT_HOME=/data" in final["ENV"] and "ENTREPOT_HOST=0.0.0.0" in final["ENV"]
    assert "COPY . " not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_the_image_copies_is_let_through_and_tried_without_an_engine() -> None:
    let_through = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    tried = STEPS.read_text(encoding="utf-8")
    copied = [step["value"].split()[:-1] for step in _dockerfile() if step["instruction"] == "COPY"]
    for name in (name for names in copied for name in names if not name.startswith(("--from", "/opt"))):
        assert any(line.startswith(f"!{name}") for line in let_through), name
        assert name.rstrip("/") in tried
    for lock in re.findall(r"requirements/\w+\.lock", (ROOT / "Dockerfile").read_text(encoding="utf-8")):
        assert lock in tried


@pytest.mark.slow
def test_the_steps_of_the_image_give_a_hub_that_becomes_healthy() -> None:
    uv = Path(sys.executable).with_name("uv")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    environ |= {"PYTHON": sys.executable} | ({"UV": str(uv)} if uv.exists() else {})
    ran = subprocess.run([STEPS, "--bare"], env=environ, capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "· stopped"


def _dockerfile() -> Sequence[Mapping[str, Any]]:
    # Given a path, the parser would open the file for writing as well.
    content: Any = io.BytesIO((ROOT / "Dockerfile").read_bytes())
    return DockerfileParser(fileobj=content).structure
