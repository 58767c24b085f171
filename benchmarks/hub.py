"""The hub as people start it: `entrepot up --bare --detach` in a home of its own, then servers and a key by the CLI."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson

from benchmarks.load import LEGACY
from benchmarks.machine import ROOT

COMMAND_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Hub:
    """A running hub: the supervisor's process, the endpoint's address, a key."""

    pid: int
    url: str
    token: str
    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str, given: str = "") -> str:
        """What `entrepot ARGUMENTS` prints. Raises `RuntimeError` with its words when it fails."""
        return command(self.environment, *arguments, given=given)

    def add(self, servers: dict[str, str]) -> None:
        """Register servers by URL: one by `servers add`, many in one `apply`."""
        if len(servers) == 1:
            for name, url in servers.items():
                self.command("servers", "add", name, url)
            return
        declared = {"servers": [{"name": name, "url": url} for name, url in servers.items()]}
        self.command("apply", "-", given=orjson.dumps(declared).decode())

    def admin(self) -> httpx.Client:
        """A client of the admin API, as the local administrator."""
        socket_path = str(self.home / "run" / "admin.sock")
        return httpx.Client(transport=httpx.HTTPTransport(uds=socket_path), base_url="http://hub", timeout=60)

    def exposed(self, tool: str, server: str = "") -> str:
        """The name under which callers see the first tool of that name, or that of one server."""
        ask = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        headers = {"authorization": f"Bearer {self.token}", "accept": "application/json, text/event-stream"}
        with httpx.Client(headers=headers, timeout=20, trust_env=False) as client:
            opened = client.post(self.url, json=ask | {"params": hello})
            opened.raise_for_status()
            session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            listed = client.post(self.url, json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, headers=session)
            names = [one["name"] for one in listed.json()["result"]["tools"]]
        wanted = (tool, f"{server}__{tool}") if server else (tool,)
        found = [name for name in names if name in wanted or (not server and name.endswith(f"__{tool}"))]
        if not found:
            raise RuntimeError(f"the hub exposes no {tool}, only {names[:10]}")
        return found[0]


def command(environment: dict[str, str], *arguments: str, given: str = "") -> str:
    """Run the command line of this checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "hub", *arguments],
        cwd=ROOT,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"entrepot {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout.strip()


@contextmanager
def running(workers: int = 1) -> Generator[Hub]:
    """A hub on a free port, with everything a call passes switched on, and nothing of the surroundings' settings."""
    with TemporaryDirectory(prefix="entrepot-bench-") as folder:
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
        environment |= {"ENTREPOT_HOME": folder, "ENTREPOT_HOST": "127.0.0.1", "ENTREPOT_PORT": str(port)}
        environment["ENTREPOT_WORKERS"] = str(workers)
        try:
            command(environment, "up", "--bare", "--detach")
            pid = int((Path(folder) / "up.pid").read_text())
            token = command(environment, "tokens", "create", "bench", "--quiet")
            yield Hub(pid, f"http://127.0.0.1:{port}/mcp", token, Path(folder), environment)
        finally:
            command(environment, "down")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
