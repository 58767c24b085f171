"""Two real workers behind one address: limits hold for both together, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.support.hub import modern_headers, modern_message
from tests.support.installation import Installation, free_port, installed

pytestmark = pytest.mark.slow

SERVER = """
import sys
from mcp.server import MCPServer
server = MCPServer("greeter")
@server.tool()
def greet(name: str) -> str:
    '''Greets.'''
    return f"hello {name}"
server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""
GREET: dict[str, Any] = {"name": "greet", "arguments": {"name": "you"}}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    """A hub of two workers with one server behind it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with installed(tmp_path_factory.mktemp("two"), "--bare", "--workers", "2") as installation:
            added = installation.run("servers", "add", "greeter", f"http://127.0.0.1:{port}/mcp")
            while added.returncode and server.poll() is None:
                added = installation.run("servers", "add", "greeter", f"http://127.0.0.1:{port}/mcp")
            assert added.returncode == 0, added.stderr
            yield installation
    finally:
        server.kill()
        server.wait()


def calls(hub: Installation, token: str, many: int, threads: int = 4, fresh: int = 25) -> dict[int, int]:
    """Make `many` calls on connections that are left after `fresh` of them, so that both workers get some."""
    headers = modern_headers("tools/call", GREET) | {"authorization": f"Bearer {token}"}

    def some(count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            with httpx.Client(timeout=30) as client:
                for _ in range(min(fresh, count - len(found))):
                    body = modern_message("tools/call", GREET)
                    try:
                        found.append(client.post(f"{hub.url}/mcp", json=body, headers=headers).status_code)
                    except httpx.TransportError:
                        # The worker was killed: the next connection goes to one that lives.
                        break
        return found

    with ThreadPoolExecutor(threads) as pool:
        done = [code for part in pool.map(some, [many // threads] * threads) for code in part]
    return {code: done.count(code) for code in set(done)}


def pid_of(hub: Installation, words: str) -> int:
    """The one process of this installation whose command has these words."""
    up = psutil.Process(int((hub.home / "up.pid").read_text()))
    (found,) = [child.pid for child in up.children() if words in " ".join(child.cmdline())]
    return found


def test_a_quota_is_exact_over_two_workers_and_survives_kill_9_of_all_of_them(two: Installation) -> None:
    two.run("limits", "set", "quota", "--principal", "counted", "--quota", "400/month", code=0)
    token = two.token("counted")
    before = calls(two, token, 200)
    assert before == {200: 200}
    victims = [pid_of(two, words) for words in ("hub.limits", "--worker 0", "--worker 1")]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with httpx.Client(timeout=5) as client:
            try:
                if client.get(f"{two.url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                continue
    after = calls(two, token, 400)
    assert after[200] + after[429] == 400
    assert 396 <= before[200] + after[200] <= 400
    shown = two.json("limits", "list")["limits"]
    assert next(limit for limit in shown if limit["name"] == "quota")["usage"][0]["used"] == 400
    two.run("limits", "remove", "quota", code=0)


def test_a_rate_is_right_within_one_in_a_hundred_over_two_workers(two: Installation) -> None:
    two.run("limits", "set", "rate", "--principal", "*", "--rate", "40/second", "--burst", "40", code=0)
    token = two.token("rated")
    began = time.monotonic()
    passed = sum(calls(two, token, 200).get(200, 0) for _ in range(3))
    allowed = 40 + 40 * (time.monotonic() - began)
    assert passed <= allowed + 1
    assert passed >= min(600, allowed * 0.9)
    two.run("limits", "remove", "rate", code=0)
