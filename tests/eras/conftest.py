"""One hub for everything here, with a server of each era over each transport behind it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from hub.catalog.manifest import CollectionSpec, ServerSpec
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.eras.matrix import ERAS
from tests.hub.runner.harness import RunnerProcess, ready
from tests.support.hub import RunningHub, running_hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    """One loop for all modules, with one hub in it."""
    return "asyncio"


@pytest.fixture(scope="package")
async def hub(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncGenerator[RunningHub]:
    """A hub and its runner, with a server of each era over each transport."""
    home = tmp_path_factory.mktemp("m")
    runner = RunnerProcess(home)
    runner.start()
    transport = httpx.AsyncHTTPTransport(uds=runner.socket)
    async with httpx.AsyncClient(transport=transport, base_url="http://runner") as http:
        await ready(http)
    async with running_hub(home) as running:
        try:
            for era in ERAS:
                await running.everything(f"http-{era}", only=era)
                command = [sys.executable, "-m", "tests.support.everything_stdio", f"stdio-{era}", era]
                env = {"PYTHONPATH": SecretStr(str(ROOT))}
                spec = ServerSpec(name=f"stdio-{era}", command=command, env=env, sandbox="trusted")
                await running.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)
            mixed = CollectionSpec(name="mixed", members=["*"])
            await running.hub.catalog.put_collection(LOCAL_ADMINISTRATOR, mixed)
            yield running
        finally:
            runner.end()
