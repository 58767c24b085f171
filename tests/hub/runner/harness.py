"""A real runner process, and a client on its socket that speaks as the hub does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import psutil

SERVERS = Path(__file__).with_name("servers")
WAIT_SECONDS = 20
META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def script(name: str, *arguments: str) -> list[str]:
    """The command of one of the test servers."""
    return [sys.executable, str(SERVERS / f"{name}.py"), *arguments]


@dataclass
class RunnerProcess:
    """A runner of its own home."""

    home: Path
    process: subprocess.Popen[bytes] | None = None
    seen: set[psutil.Process] = field(default_factory=set[psutil.Process])

    @property
    def socket(self) -> str:
        return str(self.home / "run" / "runner.sock")

    def start(self) -> None:
        environment = {"ENTREPOT_HOME": str(self.home), "PATH": os.environ["PATH"], "HOME": str(self.home)}
        with (self.home / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hub.runner"], env=environment, stdout=out, stderr=out
            )

    def family(self) -> set[psutil.Process]:
        """Every process below the runner, remembered for `survivors`."""
        assert self.process is not None
        self.seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return {process for process in self.seen if alive(process)}

    def survivors(self) -> set[psutil.Process]:
        return {process for process in self.seen if alive(process)}

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(WAIT_SECONDS)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Client:
    """Speaks to the runner as the hub does."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def want(self, name: str, command: list[str], **spec: Any) -> None:
        body = {"command": command, "sandbox": "trusted"} | spec
        answer = await self.http.put(f"/children/{name}", json=body)
        assert answer.status_code == 200, answer.text

    async def child(self, name: str) -> dict[str, Any]:
        return (await self.http.get(f"/children/{name}")).json()

    async def session(self, name: str, capabilities: dict[str, Any] | None = None, **headers: str) -> Session:
        params = {"protocolVersion": "2025-11-25", "capabilities": capabilities or {}, "clientInfo": {"name": "t"}}
        body = {"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params}
        answer = await self.http.post(f"/s/{name}/mcp", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return Session(self.http, f"/s/{name}/mcp", {"mcp-session-id": answer.headers["mcp-session-id"]} | headers)

    async def modern(self, name: str, method: str, params: dict[str, Any], request_id: Any = 1) -> httpx.Response:
        meta = META | params.pop("_meta", {})
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params | {"_meta": meta}}
        return await self.http.post(f"/s/{name}/mcp", json=body, headers={"mcp-protocol-version": "2026-07-28"})


@dataclass
class Session:
    """A legacy session on one child."""

    http: httpx.AsyncClient
    url: str
    headers: dict[str, str]

    async def post(self, message: dict[str, Any]) -> httpx.Response:
        return await self.http.post(self.url, json={"jsonrpc": "2.0"} | message, headers=self.headers)

    async def call(self, tool: str, request_id: Any = 1, **arguments: Any) -> httpx.Response:
        params = {"name": tool, "arguments": arguments}
        return await self.post({"id": request_id, "method": "tools/call", "params": params})

    def stream(self, message: dict[str, Any] | None = None) -> Any:
        """A POST whose events are read as they come, or the GET stream."""
        if message is None:
            return self.http.stream("GET", self.url, headers=self.headers)
        return self.http.stream("POST", self.url, json={"jsonrpc": "2.0"} | message, headers=self.headers)

    async def end(self) -> None:
        await self.http.delete(self.url, headers=self.headers)


async def events(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """The messages of an event stream."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield orjson.loads(line[6:])


def text_of(response: httpx.Response) -> str:
    """The text of a tool's answer."""
    return response.json()["result"]["content"][0]["text"]


async def ready(http: httpx.AsyncClient) -> None:
    """Wait until the runner answers."""
    with anyio.fail_after(WAIT_SECONDS):
        while True:
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                await anyio.sleep(0.05)
