"""What a hub survives: killed parts, wrappers that ignore signals, servers that come and go by the dozen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from tests.support.installation import Installation, installed

pytestmark = [pytest.mark.slow]

CYCLES = int(os.environ.get("TEST_OPEN_CLOSE_CYCLES", "6"))
CALCULATOR = Path(__file__).parent.parent / "hub" / "cli" / "calculator.py"
STUBBORN = f"trap '' TERM; (trap '' TERM; exec sleep 600) & {sys.executable} {CALCULATOR}"
SECONDS = 30


@pytest.fixture
def hub(tmp_path: Path) -> Generator[Installation]:
    """A bare hub of its own for each test: its parts are killed."""
    with installed(tmp_path) as here:
        yield here


def until(holds: Callable[[], bool], what: str) -> None:
    """Look again until it holds; fails after a bound."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"not within {SECONDS} s: {what}"
        time.sleep(0.1)


def test_servers_behind_stubborn_wrappers_come_and_go_and_leave_no_process(hub: Installation) -> None:
    def sleepers() -> int:
        return sum("sleep 600" in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))

    before = sleepers()
    for _ in range(CYCLES):
        hub.run("servers", "add", "stubborn", "--sandbox", "trusted", "--stdio", "sh", "-c", STUBBORN, code=0)
        hub.run("servers", "remove", "stubborn", code=0)
    until(lambda: sleepers() <= before, "the wrappers' children are gone")
