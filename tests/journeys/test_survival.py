"""What an installation survives: its parts are killed while it works, and nothing acknowledged is lost or left behind.

All that belongs to an installation is known by the environment: our processes by their home, a server's by a mark.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from hub.settings import Settings
from tests.support.installation import Installation, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CYCLES = int(os.environ.get("ENTREPOT_TEST_CYCLES", "60"))
"""Starts and stops of a server; 1,000 for the soak."""

SECONDS = 30
"""Until what was killed works again, on a busy machine."""

LEFT_SECONDS = 10
"""Until nothing is left of what was killed."""

META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"

SERVER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method, params = asked["method"], asked.get("params", {})
    if method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "echo", "version": "1"}}
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        result = {"tools": [{"name": "echo", "inputSchema": schema}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": params["arguments"]["text"]}]}
    else:
        result = {}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
"""A stdio server of the standard library alone: it starts in a moment."""


FAMILY = 'trap "" TERM; (trap "" TERM; while :; do sleep 600; done) & "$@"; '
"""A wrapper like npx and a grandchild, both deaf to SIGTERM, around the command that follows."""

STUBBORN = f"{FAMILY} while :; do sleep 600; done"
"""The same, and the wrapper does not end with its command either."""

ECHO = ("sh", sys.executable, "-I", "-S", "-c", SERVER)
MARK = "SURVIVAL_MARK"


@pytest.fixture
def hub(tmp_path: Path) -> Generator[Installation]:
    """A bare hub of its own for each test: its parts are killed."""
    with installed(tmp_path) as here:
        yield here
    until(lambda: not of(here), "everything is gone after `down`", LEFT_SECONDS)


def until(holds: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
    """Look again until it holds; fails after a bound."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def supervisor(here: Installation) -> psutil.Process:
    """The process of `up`."""
    return psutil.Process(int((here.home / "up.pid").read_text()))


def part(here: Installation, word: str) -> psutil.Process | None:
    """The process below `up` that has this word in its command line; None while there is none."""
    found = [one for one in supervisor(here).children() if word in one.cmdline()]
    return found[0] if found else None


def kill(here: Installation, word: str) -> None:
    """SIGKILL for this part, once it is there."""
    until(lambda: part(here, word), f"{word} runs")
    found = part(here, word)
    assert found is not None
    found.kill()


def having(name: str, value: str) -> set[psutil.Process]:
    """All processes with this in their environment; the dead that are not yet buried have none."""
    return {one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get(name) == value}


def of(here: Installation) -> set[psutil.Process]:
    """All of our own processes of an installation."""
    return having("ENTREPOT_HOME", str(here.home))


def add(here: Installation, mark: str) -> None:
    """Add the server, with its family."""
    told = ("--sandbox", "trusted", "--env", f"{MARK}={mark}")
    here.run("servers", "add", "echo", *told, "--stdio", "sh", "-c", STUBBORN, *ECHO, code=0)


def call(here: Installation, token: str, trace: str = "") -> bool:
    """Whether the tool was called, over a connection of its own: a result came, and it is the right one."""
    trace = trace or uuid.uuid4().hex
    meta: dict[str, Any] = {
        f"{META}protocolVersion": MODERN,
        f"{META}clientCapabilities": {},
        "traceparent": f"00-{trace}-{trace[:16]}-01",
    }
    params = {"name": "echo", "arguments": {"text": trace}, "_meta": meta}
    headers = {
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {token}",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "echo",
    }
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    try:
        answer = httpx.post(f"{here.url}/mcp", json=asked, headers=headers, timeout=SECONDS)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and f'"text":"{trace}"' in answer.text.replace(" ", "")


def audited(here: Installation) -> set[str]:
    """The traces of all calls in the audit."""
    traces: set[str] = set()
    cursor = ""
    while True:
        more = ("--cursor", cursor) if cursor else ()
        page = here.json("audit", "search", "--event", "tool:call", "--limit", "1000", *more)
        traces |= {record["trace"] for record in page["records"]}
        cursor = page["next"]
        if not cursor:
            return traces


class Callers:
    """Threads that call without a pause while a part is killed under them."""

    def __init__(self, here: Installation, token: str, threads: int = 4) -> None:
        self._here, self._token = here, token
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(threads)]
        self.acknowledged: list[str] = []

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def go_on(self, calls: int = 20) -> None:
        """Wait until so many more calls are acknowledged."""
        wanted = len(self.acknowledged) + calls
        until(lambda: len(self.acknowledged) >= wanted, f"{calls} more calls are answered")

    def _call(self) -> None:
        while not self._enough.wait(0.01):
            trace = uuid.uuid4().hex
            if call(self._here, self._token, trace):
                self.acknowledged.append(trace)


def test_a_killed_worker_loses_no_acknowledged_call(hub: Installation) -> None:
    add(hub, "worker")
    with Callers(hub, hub.token()) as callers:
        for _ in range(2):
            callers.go_on()
            kill(hub, "serve")
        callers.go_on()
    until(lambda: set(callers.acknowledged) <= audited(hub), "every acknowledged call is in the audit")
    assert hub.json("audit", "verify")["ok"]
    below = {supervisor(hub), *supervisor(hub).children(recursive=True)}
    assert of(hub) <= below
    assert having(MARK, "worker") <= below


def test_a_killed_runner_leaves_no_child_and_the_next_call_works(hub: Installation) -> None:
    add(hub, "runner")
    token = hub.token()
    assert call(hub, token)
    before = having(MARK, "runner")
    assert len(before) >= 5, "a shepherd, the wrapper, the grandchild and its own, the server"
    kill(hub, "hub.runner")
    _, left = psutil.wait_procs(before, timeout=LEFT_SECONDS)
    assert not left
    until(lambda: call(hub, token), "a call works")


def test_a_killed_supervisor_takes_all_along_and_the_home_can_be_used_again(hub: Installation) -> None:
    add(hub, "supervisor")
    token = hub.token()
    assert call(hub, token)
    before = of(hub) | having(MARK, "supervisor")
    supervisor(hub).kill()
    _, left = psutil.wait_procs(before, timeout=LEFT_SECONDS)
    assert not left
    hub.run("up", "--bare", "--detach", code=0)
    assert call(hub, token)
    assert hub.json("audit", "verify")["ok"]


def test_a_hub_starts_at_once_although_processes_of_the_killed_one_still_linger(hub: Installation) -> None:
    """They take neither the address nor a socket from the new ones, even the slowest of them."""
    add(hub, "again")
    token = hub.token()
    slow = part(hub, "hub.runner")
    assert slow is not None
    with Callers(hub, token, threads=2) as callers:
        callers.go_on(5)
        before = of(hub)
        slow.suspend()
        try:
            supervisor(hub).kill()
            hub.run("up", "--bare", "--detach", code=0)
        finally:
            slow.resume()
        _, left = psutil.wait_procs(before, timeout=LEFT_SECONDS)
        assert not left
        kill(hub, "serve")  # a new worker has no connection yet, so it needs the sockets themselves
        callers.go_on(5)


def test_two_installations_side_by_side_do_not_touch_each_other(hub: Installation, tmp_path: Path) -> None:
    with installed(tmp_path / "other") as other:
        for here, mark in ((hub, "one"), (other, "two")):
            add(here, mark)
        token, foreign = hub.token(), other.token()
        assert call(hub, token)
        assert call(other, foreign)
        assert not call(other, token)
        before = of(hub) | having(MARK, "one")
        other.run("servers", "remove", "echo", code=0)
        supervisor(other).kill()
        until(lambda: not of(other) | having(MARK, "two"), "the other is gone", LEFT_SECONDS)
        assert all(one.is_running() for one in before)
        assert call(hub, token)


def test_servers_that_come_and_go_leave_no_process(hub: Installation) -> None:
    child = {
        "command": ["sh", "-c", f"{FAMILY} :", *ECHO],
        "env": {MARK: "cycles"},
        "sandbox": "trusted",
        "kind": "stdio",
    }
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    socket = str(Settings(home=hub.home).runner_socket)
    running = part(hub, "hub.runner")
    assert running is not None
    baseline = len(running.children(recursive=True))

    def cycle(number: int) -> None:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=socket), base_url="http://runner", timeout=SECONDS
        ) as runner:
            name = f"echo-{number}"
            runner.put(f"/children/{name}", json=child).raise_for_status()
            headers = {"accept": "application/json, text/event-stream"}
            runner.post(f"/s/{name}/mcp", json=asked, headers=headers).raise_for_status()
            runner.delete(f"/children/{name}").raise_for_status()

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(cycle, range(CYCLES)):
            pass
    until(lambda: len(running.children(recursive=True)) <= baseline, "as many processes as before", LEFT_SECONDS)
    until(lambda: not having(MARK, "cycles"), "no process of a server is left", LEFT_SECONDS)
    assert running.is_running()
