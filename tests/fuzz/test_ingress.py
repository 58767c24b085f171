"""Nothing that a stranger sends to `/mcp` makes the hub fail, hang or log an error; the long form is `make soak`."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.fuzz.answers import looked_at
from tests.fuzz.drive import Complaints, Fault, Gun
from tests.fuzz.requests import Shot
from tests.support.hub import running_hub

pytestmark = pytest.mark.anyio

SHOTS = 1_500
LOOKS = 60
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.http"))
TOKEN = b"@TOKEN@"
HOST = b"@HOST@"
SESSION = b"@SESSION@"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For the whole module, as its hub is."""
    return "asyncio"


@pytest.fixture(scope="module")
async def gun(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncGenerator[Gun]:
    """One hub for all, with everything behind it."""
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        async with running_hub(tmp_path_factory.mktemp("home")) as running:
            await running.everything()
            await running.everything("old", only="legacy")
            await running.everything("new", only="modern")
            yield Gun(running.hub.settings.port, running.token, complaints)
    finally:
        logging.getLogger().removeHandler(complaints)


async def test_what_was_drawn_by_a_seed_gets_an_answer_and_harms_nobody(gun: Gun) -> None:
    report = await gun.fire(1, shots=SHOTS, told=lambda _: None)
    assert [f"shot {one.number}: {one.what} for {one.sent[:400]!r}" for one in report.faults] == []
    assert {200, 202, 400, 404} <= set(report.statuses), report.statuses
    assert report.statuses[200] > SHOTS / 10, report.statuses


@pytest.mark.parametrize("path", CORPUS, ids=[one.stem for one in CORPUS])
async def test_what_was_once_a_finding_stays_answered(gun: Gun, path: Path) -> None:
    if not gun.known.sessions:
        await gun.fire(1, shots=1, told=_ignored)
    sent = path.read_bytes().replace(TOKEN, gun.known.token.encode())
    sent = sent.replace(HOST, gun.known.host.encode())
    sent = sent.replace(SESSION, gun.known.sessions[0].encode())
    assert await gun.judged(Shot((sent,), True, False)) == []


async def test_looks_at_servers_that_lie_end_in_time_and_in_errors_of_ours() -> None:
    wrong: list[str] = []

    async def look(number: int) -> None:
        if what := await looked_at(Random(f"1:{number}")):
            wrong.append(f"look {number}: {what}")

    async with anyio.create_task_group() as group:
        for number in range(LOOKS):
            group.start_soon(look, number)
    assert wrong == []


def _ignored(_: Fault) -> None:
    """Only the harvest was wanted."""
