"""The doctor calls every seeded misconfiguration by its name, raises no false alarm, and shows no secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from hub.doctor.checks import BY_CODE, CHECKS
from hub.settings import Settings
from tests.support.installation import Installation, installed
from tests.support.misconfigured import web
from tests.support.misconfigured.certificates import Authority
from tests.support.misconfigured.corpus import CORPUS, Seeded, Surroundings
from tests.support.misconfigured.mcp import Mcp

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

AT_ONCE = 8
IDLE_SECONDS = 3

NOT_SEEDED = {
    "runner-down",
    "no-sandbox",
    "runtime-missing",
    "package-not-found",
    "loopback-in-container",
    "unreachable",
    "refused",
}
"""What a test cannot bring about here without a machine of its own."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For the whole module, as its hub is."""
    return "asyncio"


@pytest.fixture(scope="module")
async def around(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    folder = tmp_path_factory.mktemp("around")
    (folder / "server.py").write_text("print()")
    return Surroundings(Authority(folder), Authority(folder, "Foreign authority"), folder)


@pytest.fixture(scope="module")
async def hub(
    around: Surroundings, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncGenerator[Installation]:
    with installed(tmp_path_factory.mktemp("home"), env={"SSL_CERT_FILE": str(around.trusted.file)}) as running:
        yield running


async def examined(hub: Installation, declared: dict[str, Any], idle: float = IDLE_SECONDS) -> list[dict[str, Any]]:
    """All rows for a server that is only declared."""
    socket = Settings.model_validate({"home": hub.home}).admin_socket
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=120) as client:
        body = {"name": "seeded"} | declared
        answer = await client.post("/api/v1/doctor", params={"idle": idle}, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["checks"]


def codes(rows: list[dict[str, Any]]) -> set[str]:
    """The names of what was found."""
    return {row["name"] for row in rows if row.get("owner")}


async def test_every_seeded_misconfiguration_is_called_by_its_name(hub: Installation, around: Surroundings) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []

    async def examine(seeded: Seeded) -> None:
        async with limit, seeded.made(around) as declared:
            rows = await examined(hub, declared)
        told = codes(rows)
        if seeded.code not in told or told - {seeded.code, *seeded.also}:
            wrong.append(f"{seeded.title}: wanted {seeded.code}, found {sorted(told)}: {rows}")

    await asyncio.gather(*map(examine, CORPUS))
    assert wrong == [], f"{len(wrong)} of {len(CORPUS)}:\n" + "\n\n".join(wrong)


async def test_a_good_server_is_well_in_every_step(hub: Installation, around: Surroundings) -> None:
    for behaviour in (Mcp(), Mcp(eras=("modern",), capabilities=web.LISTENS), Mcp(eras=("legacy",))):
        async with web.served(behaviour) as declared:
            rows = await examined(hub, declared, 1)
        assert codes(rows) == set(), rows
        assert [row["name"] for row in rows] == [
            "declaration", "connection", "answer", "protocol", "definitions", "streams",
        ]  # fmt: skip
    async with web.secured(around.trusted) as declared:
        assert codes(await examined(hub, declared, 1)) == set()


def test_every_check_is_seeded_and_says_whose_it_is_and_what_to_do() -> None:
    assert len(CORPUS) >= 30
    assert {seeded.code for seeded in CORPUS} == set(BY_CODE) - NOT_SEEDED
    assert len(BY_CODE) == len(CHECKS)
    for check in CHECKS:
        assert check.means.endswith("."), check.code
        assert check.step.endswith((".", "`.", ").")), check.code
