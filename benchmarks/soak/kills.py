"""A worker, the runner, a child or a server is killed every few seconds under load in both eras; the ledger counts.

Clients do what real ones do: a connection that is refused or breaks before its answer is opened anew, and a call that
may be repeated is sent again; one that may not is left alone. So no such call may fail, and no write may be done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import httpx
import orjson
import psutil

from benchmarks import hub
from benchmarks.ledger import MODERN, Ledger
from benchmarks.machine import ROOT
from benchmarks.soak.scenario import Finding, Plan, Scenario

Victim = Literal["worker", "runner", "child", "server"]
SCRIPT = ROOT / "benchmarks" / "ledger.py"
META = "io.modelcontextprotocol/"
LEGACY = "2025-11-25"
CLIENTS = 4
"""Per era."""

MOST_RECONNECTS = 5
LEFT_SECONDS = 10.0
"""Until nothing may be left of a hub that was stopped."""


@dataclass
class Storm:
    """What is to happen, and what came of it."""

    url: str
    token: str
    book: Ledger
    servers: tuple[str, ...]
    failures: list[str] = field(default_factory=list[str])
    """Calls that may be repeated, and failed for their client."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    acknowledged: list[str] = field(default_factory=list[str])
    """Keys of writes that were answered."""
    kills: Counter[str] = field(default_factory=Counter[str])
    reconnects: int = 0

    @property
    def written_twice(self) -> list[str]:
        """Keys of writes that were done more than once."""
        return [key for key, times in Counter(self.book.entries("write")).items() if times > 1]

    @property
    def lost(self) -> set[str]:
        """Writes that were answered and not done."""
        return set(self.acknowledged) - set(self.book.entries("write"))


class Client:
    """One client of one era, which reconnects and never repeats what must not be repeated."""

    def __init__(self, storm: Storm, http: httpx.AsyncClient, era: str, number: int, rng: random.Random) -> None:
        self._storm = storm
        self._http = http
        self._era = era
        self._number = number
        self._rng = rng
        self._session = ""
        self._calls = 0

    async def run(self, enough: asyncio.Event) -> None:
        """Call until it is enough."""
        if self._era == "legacy":
            await self._open()
        while not enough.is_set():
            self._calls += 1
            server = self._rng.choice(self._storm.servers)
            tool = self._rng.choice(("read", "read", "put", "slow_read", "write"))
            await self._call(server, tool, f"{self._era}-{self._number}-{self._calls}")

    async def _open(self) -> None:
        hello: dict[str, Any] = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "storm", "version": "1"},
        }
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        answer = await self._sent(message, {}, repeat=True)
        assert answer is not None, "a session could not be opened"
        self._session = answer.headers["mcp-session-id"]

    async def _call(self, server: str, tool: str, key: str) -> None:
        params: dict[str, Any] = {"name": f"{server}__{tool}", "arguments": {"key": key}}
        headers: dict[str, str] = {}
        if self._era == "modern":
            told: dict[str, Any] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
            headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": params["name"]}
            params["_meta"] = told
        else:
            headers = {"mcp-session-id": self._session, "mcp-protocol-version": LEGACY}
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._calls, "method": "tools/call", "params": params}
        answer = await self._sent(message, headers, repeat=tool != "write")
        self._judge(tool, key, answer)

    def _judge(self, tool: str, key: str, answer: httpx.Response | None) -> None:
        storm = self._storm
        if answer is None:
            fault = "the connection broke"
        else:
            text = answer.text
            fault = "" if '"result"' in text and key in text else f"HTTP {answer.status_code}: {text[:300]}"
        if not fault:
            storm.outcomes["ok"] += 1
            if tool == "write":
                storm.acknowledged.append(key)
        elif tool == "write":
            storm.outcomes["a write that is told to be uncertain or not done"] += 1
        else:
            storm.failures.append(f"{self._era} {tool}: {fault}")

    async def _sent(self, message: dict[str, Any], headers: dict[str, str], *, repeat: bool) -> httpx.Response | None:
        common = {"authorization": f"Bearer {self._storm.token}", "accept": "application/json, text/event-stream"}
        for _ in range(MOST_RECONNECTS):
            try:
                return await self._http.post(self._storm.url, json=message, headers=common | headers)
            except httpx.ConnectError as error:
                # Refused: the supervisor holds the listening socket, so this must not happen at all.
                self._storm.failures.append(f"a connection was refused: {error!r}")
                return None
            except httpx.TransportError:
                if not repeat:
                    return None
                self._storm.reconnects += 1
        return None


async def rage(
    storm: Storm,
    rng: random.Random,
    victims: Sequence[Victim],
    pid: int,
    server: Restarted,
    *,
    seconds: float,
    every: float,
) -> None:
    """Load, and a kill every so many seconds."""
    enough = asyncio.Event()
    limits = httpx.Limits(max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as http, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            for era in ("modern", "legacy"):
                group.create_task(Client(storm, http, era, number, random.Random(rng.random())).run(enough))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(every)
            victim = rng.choice(list(victims))
            storm.kills[victim] += await asyncio.to_thread(_kill, victim, pid, server, rng)
        # The last kill is survived, too.
        await asyncio.sleep(min(every, 3.0))
        enough.set()


def _kill(victim: Victim, pid: int, server: Restarted, rng: random.Random) -> bool:
    """SIGKILL for one of them. Whether there was one to kill."""
    if victim == "server":
        server.restart()
        return True
    wanted = {"worker": "serve", "runner": "hub.runner", "child": "--stdio"}[victim]
    found: list[psutil.Process] = []
    for one in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if wanted in one.cmdline():
                found.append(one)
    if not found:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        rng.choice(found).send_signal(signal.SIGKILL)
    return True


class Restarted:
    """The ledger over HTTP, in a process that may be killed and started again on its port."""

    def __init__(self, book: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._book = book
        self._process = self._started()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def restart(self) -> None:
        """Kill it and start it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._started()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(SCRIPT), str(self._book), "--port", str(self.port)])


@contextlib.asynccontextmanager
async def storming(folder: Path, url: str, token: str, apply: Any) -> AsyncGenerator[tuple[Storm, Restarted]]:
    """The ledger as two servers of a hub: `web` over HTTP, `pipes` as a child. `apply` declares them."""
    book = folder / "ledger.jsonl"
    server = Restarted(book)
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            end = time.monotonic() + 30
            while time.monotonic() < end:
                with contextlib.suppress(httpx.TransportError):
                    await http.delete(server.url)
                    break
                await asyncio.sleep(0.1)
        quick: dict[str, Any] = {"active": {"interval": 5}}
        child = [sys.executable, str(SCRIPT), str(book), "--stdio"]
        declared: list[dict[str, Any]] = [
            {"name": "web", "url": server.url, "health": quick},
            {"name": "pipes", "command": child, "sandbox": "trusted"},
        ]
        await asyncio.to_thread(apply, orjson.dumps({"servers": declared}).decode())
        yield Storm(url, token, Ledger(book), ("web", "pipes")), server
    finally:
        server.close()


def run(plan: Plan) -> Sequence[Finding]:
    """The scenario."""
    with TemporaryDirectory() as folder:
        with hub.running(workers=3) as running:
            storm = asyncio.run(_storm(Path(folder), running, plan))
            marked = {one.pid for one in psutil.Process(running.pid).children(recursive=True)}
        left = _left(marked)
        return [*findings(storm), Finding("processes left after `down`", str(left), "0", left == 0)]


async def _storm(folder: Path, running: hub.Hub, plan: Plan) -> Storm:
    def apply(declared: str) -> None:
        running.command("apply", "-", given=declared)

    victims: tuple[Victim, ...] = ("worker", "runner", "child", "server")
    async with storming(folder, running.url, running.token, apply) as (storm, server):
        rng = random.Random(plan.seed)
        await rage(storm, rng, victims, running.pid, server, seconds=plan.seconds, every=5.0)
    return storm


def findings(storm: Storm) -> list[Finding]:
    """What came of a storm."""
    return [
        Finding("kills", ", ".join(f"{n} {name}" for name, n in storm.kills.items()), "some", bool(storm.kills)),
        Finding("calls answered", str(storm.outcomes["ok"]), "more than 100", storm.outcomes["ok"] > 100),
        Finding(
            "calls that may be repeated, and failed",
            f"{len(storm.failures)} {storm.failures[:3] or ''}",
            "0",
            not storm.failures,
        ),
        Finding("reconnects of clients", str(storm.reconnects), "whatever", True),
        Finding("writes told to be uncertain", str(storm.outcomes.total() - storm.outcomes["ok"]), "whatever", True),
        Finding("writes done twice", str(len(storm.written_twice)), "0", not storm.written_twice),
        Finding("answered writes that were not done", str(len(storm.lost)), "0", not storm.lost),
    ]


def _left(pids: set[int]) -> int:
    """How many of these processes are still there after a while."""
    end = time.monotonic() + LEFT_SECONDS
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    return sum(psutil.pid_exists(pid) for pid in pids)


SCENARIO = Scenario("kills", "kill a worker, the runner, a child or a server every 5 s under load", run, 2.0)
