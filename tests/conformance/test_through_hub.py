"""The official MCP conformance suite, run against our own fixture and then through a hub in front of it.

Every scenario that a revision requires must pass; `expected-failures.yml` may only shrink.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import nodejs
from tests.support.everything import Everything
from tests.support.hub import running_hub
from tests.support.upstreams import serving

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HERE = Path(__file__).resolve().parent
REQUIREMENTS = {"2026-07-28": 37, "2025-11-25": 30}
SUITE_SECONDS = 120


@asynccontextmanager
async def fixture_server() -> AsyncGenerator[str]:
    async with serving(Everything().app()) as base:
        yield base.replace("127.0.0.1", "localhost")


async def run_suite(url: str, revision: str, folder: Path) -> str:
    """All that a revision requires of a server, run against `url`; the report, with every failure in it."""
    command = nodejs.command(
        "@modelcontextprotocol/conformance", "dist/index.js", "server", "--url", url, "--requirements", revision
    )
    expected = ["--expected-failures", str(HERE / "expected-failures.yml")]
    process = await asyncio.create_subprocess_exec(
        *command,
        *expected,
        "-o",
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=nodejs.environment(),
        cwd=folder,
    )
    async with asyncio.timeout(SUITE_SECONDS):
        out, _ = await process.communicate()
    report = out.decode(errors="replace")
    summary = report.partition("=== SUMMARY ===")[2]
    assert process.returncode == 0, summary or report
    return summary


def passed_scenarios(summary: str) -> set[str]:
    """The scenarios without a failed check."""
    return set(re.findall(r"^✓ ([a-z0-9-]+): ", summary, re.MULTILINE))


def required(revision: str) -> set[str]:
    """The scenarios that a revision requires, as the suite lists them."""
    listed = nodejs.packages() / "@modelcontextprotocol/conformance/requirements" / f"{revision}.yaml"
    server = listed.read_text().partition("\nserver:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^  - ([a-z0-9-]+)$", server, re.MULTILINE))


@pytest.mark.parametrize("revision", REQUIREMENTS)
async def test_the_fixture_itself_conforms(revision: str, tmp_path: Path) -> None:
    async with fixture_server() as base:
        passed = passed_scenarios(await run_suite(f"{base}/mcp", revision, tmp_path))
    assert len(required(revision)) == REQUIREMENTS[revision]
    assert required(revision) <= passed


@pytest.mark.parametrize("path", ["/mcp/s/everything", "/mcp"])
@pytest.mark.parametrize("revision", REQUIREMENTS)
async def test_all_required_scenarios_pass_through_the_hub(revision: str, path: str, tmp_path: Path) -> None:
    async with fixture_server() as base, running_hub(tmp_path / "home", open=True) as running:
        await running.register("everything", f"{base}/mcp")
        url = running.url.replace("127.0.0.1", "localhost")
        passed = passed_scenarios(await run_suite(f"{url}{path}", revision, tmp_path))
    assert required(revision) <= passed
