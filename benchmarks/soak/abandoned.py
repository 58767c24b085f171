"""50,000 legacy sessions that nobody closes, then an hour's health checks: no growth here, no leak at the server.

A client that never says DELETE is the common one (field: P6). The hub bounds sessions per principal, so memory rises to
that plateau and must stay there; a dropped session's upstream session must be ended at the server. The looks of an
hour are asked for one after the other when less than an hour is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks import hub, machine
from benchmarks.load import LEGACY, Connection, Load, head
from benchmarks.soak.scenario import Finding, Plan, Scenario

SESSIONS = 50_000
KEYS = 4
"""Principals that open them; each has a bound of its own, so the plateau is this many times the bound."""

PLATEAU = 6_000
"""Sessions after which the places of all principals have been taken once (4 times 1,000) and used anew."""

AT_ONCE = 8
READY_LOOKS, DOWN_LOOKS = 12, 180
"""In an hour a server that is well is looked at every five minutes, one that is down every twenty seconds."""

GROWTH_MEGABYTES = 8.0
"""What the allocator may wander by."""

HELLO = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"%b","capabilities":{},'
    b'"clientInfo":{"name":"gone","version":"1"}}}' % LEGACY.encode()
)
READY = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
CALL = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"%b","arguments":{"text":"x"}}}'
SETTLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The worker's private memory in megabytes, and the sessions open at the server."""

    memory: float
    upstream: int


def run(plan: Plan) -> Sequence[Finding]:
    """The scenario."""
    with machine.helper("mock") as mock, hub.running() as running:
        with machine.helper("mock") as doomed:
            running.add({"well": f"http://127.0.0.1:{mock.port}/6/mcp"})
            running.add({"gone": f"http://127.0.0.1:{doomed.port}/6/mcp"})
        tokens = [running.command("tokens", "create", f"client{number}", "--quiet") for number in range(KEYS)]
        worker = machine.worker(running.pid)
        tool = running.exposed("echo", server="well")

        def reading() -> Reading:
            return Reading(worker.memory_full_info().uss / 1e6, machine.opened(mock.port))

        idle = reading()
        until = time.monotonic() + plan.seconds * 0.7
        opened = asyncio.run(_abandon(running.url, tokens, tool, PLATEAU, until))
        plateau = reading()
        opened += asyncio.run(_abandon(running.url, tokens, tool, SESSIONS - opened, until))
        time.sleep(SETTLE_SECONDS)
        full = reading()
        looks = _look(running, time.monotonic() + max(plan.seconds * 0.3, 20.0), worker)
        time.sleep(SETTLE_SECONDS)
        after = reading()
    growth, later = full.memory - plateau.memory, after.memory - full.memory
    return [
        Finding("sessions opened and abandoned", f"{opened:,}", f"{SESSIONS:,}", opened >= SESSIONS),
        Finding("private memory before any, MB", f"{idle.memory:.1f}", "-", True),
        Finding(f"the same at {PLATEAU:,} sessions, MB", f"{plateau.memory:.1f}", "-", True),
        Finding(
            "growth from there to the last session, MB",
            f"{growth:+.1f}",
            f"at most {GROWTH_MEGABYTES:g}",
            growth <= GROWTH_MEGABYTES,
        ),
        Finding("sessions open at the server", f"{full.upstream:,}", "at most 4,100", full.upstream <= 4_100),
        Finding(
            f"growth over {looks} looks at servers, MB",
            f"{later:+.1f}",
            f"at most {GROWTH_MEGABYTES:g}",
            later <= GROWTH_MEGABYTES and looks >= READY_LOOKS + DOWN_LOOKS,
        ),
        Finding(
            "sessions left at the server by the looks",
            f"{after.upstream - full.upstream:+d}",
            "none",
            after.upstream <= full.upstream,
        ),
    ]


async def _abandon(url: str, tokens: Sequence[str], tool: str, wanted: int, until: float) -> int:
    """Open sessions, call once in each, and never come back. How many were opened before `until`."""
    opened = 0

    async def one_after_the_other(token: str) -> None:
        nonlocal opened
        load = Load(url, "legacy", token=token)
        _, connection = await asyncio.get_running_loop().create_connection(Connection, *machine.place(url))
        call = CALL % tool.encode()
        while opened < wanted and time.monotonic() < until:
            opened += 1
            connection.session = b""
            await _post(connection, head(load), HELLO)
            start = head(load, connection.session)
            await _post(connection, start, READY)
            await _post(connection, start, call)
        connection.close()

    await asyncio.gather(*(one_after_the_other(tokens[number % len(tokens)]) for number in range(AT_ONCE)))
    return opened


async def _post(connection: Connection, start: bytes, body: bytes) -> None:
    status, answer = await connection.exchange(start + b"%d\r\n\r\n" % len(body) + body)
    if status not in (200, 202) or b'"error"' in answer:
        raise RuntimeError(f"HTTP {status} {answer[:300]!r}")


def _look(running: hub.Hub, until: float, worker: psutil.Process) -> int:
    """An hour's looks at both servers, as the hub's own health checks do them."""
    looks = 0
    with running.admin() as client:
        for number in range(DOWN_LOOKS):
            names = ("gone", "well") if number % (DOWN_LOOKS // READY_LOOKS) == 0 else ("gone",)
            for name in names:
                client.post(f"/api/v1/servers/{name}/refresh").raise_for_status()
                looks += 1
            if time.monotonic() > until or not worker.is_running():
                break
    return looks


SCENARIO = Scenario(
    "abandoned", "50,000 legacy sessions that nobody closes, then an hour's health checks", run, minutes=8
)
