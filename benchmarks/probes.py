"""Single figures that are no load: what an idle worker holds, what 10,000 tools cost, how a change of them spreads.

A new one is a function that gives findings and a line in `PROBES`; parts of the product with figures of their own keep
them in a module of theirs and name it here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import httpx

from benchmarks import hub, machine, measure
from benchmarks.hub import Hub
from benchmarks.load import META, MODERN, Load
from benchmarks.measure import System
from benchmarks.soak.scenario import Finding

SERVERS, TOOLS, PRINCIPALS = 100, 100, 1000
SETTLE_SECONDS = 3.0
IDLE_MEGABYTES, SNAPSHOT_MEGABYTES, STALL, SPREAD_SECONDS, PAGES = 110, 60, 20.0, 2.0, 1000
LISTENERS, CHANGES = 12, 5
GRANTS = 40
"""Servers that a principal may use whole, of a hundred; and as many single tools of others."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to find out, with the processes that it needs."""

    name: str
    about: str
    run: Callable[[], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Wide:
    """A hub of two workers before 100 servers of 100 tools, one of which can be changed."""

    hub: Hub
    mock: machine.Helper
    changing: machine.Helper

    def memory(self) -> list[float]:
        """What each worker has for itself, in megabytes."""
        time.sleep(SETTLE_SECONDS)
        return [machine.worker(self.hub.pid, number).memory_full_info().uss / 1e6 for number in (0, 1)]


@contextmanager
def wide() -> Generator[Wide]:
    """Started, not yet told of any server."""
    with machine.helper("mock") as mock, machine.helper("mock") as changing, hub.running(2) as running:
        yield Wide(running, mock, changing)


def fill(world: Wide) -> None:
    """Register all servers."""
    servers = {f"s{number}": f"http://127.0.0.1:{world.mock.port}/{TOOLS}/{number}/mcp" for number in range(SERVERS)}
    servers["s0"] = f"http://127.0.0.1:{world.changing.port}/{TOOLS}/0/mcp"
    world.hub.add(servers)


def idle() -> Sequence[Finding]:
    """Memory of a worker that was just started."""
    with hub.running(2) as running:
        time.sleep(SETTLE_SECONDS)
        told = [machine.worker(running.pid, number).memory_full_info() for number in (0, 1)]
    worst = max(one.rss for one in told) / 1e6
    own = max(one.uss for one in told) / 1e6
    figure = f"{worst:.0f} ({own:.0f} of it its own)"
    return [Finding("idle worker, RSS in MB", figure, f"at most {IDLE_MEGABYTES}", worst <= IDLE_MEGABYTES)]


def catalog() -> Sequence[Finding]:
    """10,000 tools: memory, how long a change takes to everybody, and whom the swap stops."""
    with wide() as world:
        before = world.memory()
        fill(world)
        live = world.memory()
        spread = asyncio.run(_spread(world))
        quiet, swapped = _stalls(world)
        hub.command(world.hub.environment, "down")
        hub.command(world.hub.environment, "up", "--bare", "--detach")
        again = Wide(replace(world.hub, pid=int((world.hub.home / "up.pid").read_text())), world.mock, world.changing)
        fresh = again.memory()
    grown = max(late - early for early, late in zip(before, live, strict=True))
    started = max(late - early for early, late in zip(before, fresh, strict=True))
    stall = swapped - quiet
    return [
        Finding(
            "10,000 tools in a worker that started with them, MB",
            f"{started:.0f}",
            f"at most {SNAPSHOT_MEGABYTES}",
            started <= SNAPSHOT_MEGABYTES,
        ),
        Finding("10,000 tools in a worker that took them in, MB", f"{grown:.0f}", "-", True),
        Finding(
            f"change at a server until all {LISTENERS} clients of two workers are told and list it, s",
            f"{spread:.2f}",
            f"under {SPREAD_SECONDS:g}",
            spread < SPREAD_SECONDS,
        ),
        Finding(
            "longest call in a second with a swap, ms more than in one without",
            f"{stall:+.1f} ({quiet:.1f} without)",
            f"at most {STALL:g}",
            stall <= STALL,
        ),
    ]


def pages() -> Sequence[Finding]:
    """Lists of 1,000 principals with different grants over 10,000 tools, page after page."""
    with wide() as world:
        fill(world)
        tokens = _keys(world.hub)
        cpus = machine.settle_on("auto")
        load = Load(
            world.hub.url,
            "modern",
            8,
            seconds=4.0,
            warmup=1.0,
            method="tools/list",
            needle='"inputSchema"',
            tokens=tokens,
            follow=True,
        )
        taken = measure.window(System("hub", world.hub.pid, load), cpus, [world.hub.pid, world.mock.pid])
    per_core = 1000 / taken.cpu
    told = f"{per_core:,.0f} ({taken.rate:,.0f}/s beside the load on one core)"
    return [Finding("list pages a worker gives in a second of its CPU", told, f"at least {PAGES:,}", per_core >= PAGES)]


def _keys(running: Hub) -> tuple[str, ...]:
    """1,000 keys, each with grants of its own."""
    tokens: list[str] = []
    with running.admin() as client:
        for number in range(PRINCIPALS):
            first = number * 7
            scopes = [f"call:s{(first + step * 3) % SERVERS}" for step in range(GRANTS)]
            scopes += [f"call:s{(first + step * 3 + 1) % SERVERS}/tool_{number % TOOLS:04d}" for step in range(GRANTS)]
            made = client.post("/api/v1/tokens", json={"name": f"p{number}", "scopes": sorted(set(scopes))})
            tokens.append(str(made.raise_for_status().json()["token"]))
    return tuple(tokens)


def _stalls(world: Wide) -> tuple[float, float]:
    """The longest call in a second, without and with a change of the catalog in it: medians of several."""
    tool = world.hub.exposed("echo", server="s1")
    params: dict[str, Any] = {"name": tool, "arguments": {"text": "x"}}
    load = Load(world.hub.url, "modern", 4, seconds=1.0, params=params, token=world.hub.token, needle='"x"')
    longest: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(CHANGES):
        for changed in (False, True):
            if changed:
                # Told now, looked at and swapped within the window that follows.
                httpx.post(f"http://127.0.0.1:{world.changing.port}/change", trust_env=False)
            taken = measure.window(System("hub", world.hub.pid, load), [0], [world.hub.pid])
            longest[changed].append(taken.longest)
    return median(longest[False]), median(longest[True])


async def _spread(world: Wide) -> float:
    """Seconds from a change at a server until the last client was told and then found it in the list; the worst."""
    worst = 0.0
    headers = {"authorization": f"Bearer {world.hub.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        for change in range(1, CHANGES + 1):
            ready = asyncio.Semaphore(0)
            clients = [asyncio.create_task(_told(world.hub, headers, change, ready)) for _ in range(LISTENERS)]
            for _ in clients:
                await ready.acquire()
            began = time.monotonic()
            await http.post(f"http://127.0.0.1:{world.changing.port}/change")
            async with asyncio.timeout(20):
                await asyncio.gather(*clients)
            worst = max(worst, time.monotonic() - began)
    return worst


async def _told(running: Hub, headers: dict[str, str], change: int, ready: asyncio.Semaphore) -> None:
    """Listen on a connection of its own; once told, ask on another until the change is in the list."""
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        wanted = {"notifications": {"toolsListChanged": True}}
        async with http.stream("POST", running.url, **_request("subscriptions/listen", wanted)) as answer:
            async for line in answer.aiter_lines():
                if "acknowledged" in line:
                    ready.release()
                elif "list_changed" in line:
                    break
        async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as other:
            told = await other.post(f"{running.url}/s/s0", **_request("tools/list", {}))
        if f"Changed {change} times" not in told.text:
            raise RuntimeError(f"a client that was told of change {change} was given an old list")


def _request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": MODERN, "mcp-method": method}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}},
        "headers": headers,
    }


PROBES: tuple[Probe, ...] = (
    Probe("idle", "memory of a worker that was just started", idle),
    Probe("catalog", "10,000 tools: memory, spread of a change, stall of a swap", catalog),
    Probe("pages", "list pages of 1,000 principals with different grants over 10,000 tools", pages),
)
