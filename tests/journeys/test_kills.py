"""Kills under load, in short: no call that may be repeated fails, no write is done twice, and nothing is left behind.

`python -m benchmarks.soak kills` is the same for two minutes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from benchmarks.soak.kills import Storm, Victim, findings, rage, storming
from tests.support.installation import Installation, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def stormed(folder: Path, here: Installation, victims: Sequence[Victim], seconds: float, every: float) -> Storm:
    def apply(declared: str) -> None:
        here.run("apply", "-", stdin=declared, code=0)

    async def storm() -> Storm:
        pid = int((here.home / "up.pid").read_text())
        url, token = f"{here.url}/mcp", here.token()
        async with storming(folder, url, token, apply) as (storm, server):
            await rage(storm, random.Random(7), victims, pid, server, seconds=seconds, every=every)
        return storm

    return asyncio.run(storm())


def test_three_workers_are_killed_in_turn_and_no_client_of_either_era_notices(tmp_path: Path) -> None:
    """Sessions of a killed worker are taken over by the others; nobody's connection is refused."""
    with installed(tmp_path / "home", "--bare", "--workers", "3") as here:
        storm = stormed(tmp_path, here, ("worker",), seconds=8, every=2)
    assert storm.kills["worker"] >= 3
    assert [one for one in findings(storm) if not one.kept] == []


def test_runner_child_and_server_are_killed_under_load_and_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    with installed(tmp_path / "home", "--bare", "--workers", "2") as here:
        storm = stormed(tmp_path, here, ("runner", "child", "server"), seconds=9, every=3)
        below = psutil.Process(int((here.home / "up.pid").read_text())).children(recursive=True)
    assert [one for one in findings(storm) if not one.kept] == []
    _, left = psutil.wait_procs(below, timeout=10)
    assert not left, "no orphan after `down`"
