"""A real runner process for a test, and a client on its socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx
import pytest

from tests.hub.runner.harness import WAIT_SECONDS, Client, RunnerProcess, ready


@pytest.fixture
def runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunnerProcess]:
    one = RunnerProcess(tmp_path_factory.mktemp("r"))
    one.start()
    yield one
    if one.process is not None and one.process.poll() is None:
        one.end()


@pytest.fixture
async def client(runner: RunnerProcess) -> AsyncGenerator[Client]:
    transport = httpx.AsyncHTTPTransport(uds=runner.socket)
    async with httpx.AsyncClient(transport=transport, base_url="http://runner", timeout=WAIT_SECONDS * 2) as http:
        await ready(http)
        yield Client(http)
