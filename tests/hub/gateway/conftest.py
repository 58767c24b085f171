"""One hub per test, empty at first."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.hub import RunningHub, running_hub


@pytest.fixture
async def running(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[RunningHub]:
    """A hub that serves on a port of its own."""
    async with running_hub(tmp_path) as running:
        yield running
