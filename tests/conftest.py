"""The few fixtures that every test may use."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: uvicorn and our upstream client stand on it."""
    return "asyncio"
