"""What starts inside the sandbox: two local endpoints, then the agent, then its result over the border.

Standard library only: of the product nothing else is readable here. The endpoints (`OPENAI_BASE_URL`, `MCP_URL`) are a
relay from an empty loopback to the border's socket, so that any framework can run unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import inspect
import json
import os
import runpy
import socket
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
CHUNK = 65_536
ANSWER_SECONDS = 3600.0
"""The worker bounds the run; this only keeps a lost border from holding the process for ever."""


class BorderConnection(http.client.HTTPConnection):
    """HTTP over the border's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("border", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Border:
    """Requests to the border, one connection each: they are few and slow, and a fresh one never is stale."""

    def __init__(self, path: str) -> None:
        self._path = path

    def job(self) -> dict[str, Any]:
        """What is to be done."""
        return self._ask("GET", "/job", None)[1]

    def send(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Post JSON; status and JSON come back."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        connection = BorderConnection(self._path)
        try:
            content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
            headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
            if path == "/mcp":
                headers["mcp-protocol-version"] = "2026-07-28"
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if (answer.getheader("content-type") or "").startswith("text/event-stream"):
                data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
                text = data[-1] if data else "{}"
            return answer.status, json.loads(text or "{}")
        finally:
            connection.close()


class Relay(threading.Thread):
    """Carries bytes between a loopback port and the border's socket, for agents of any make."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def run(self) -> None:
        """Serve until the process ends."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, sock=self._listening)
        async with server:
            await server.serve_forever()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_unix_connection(self._path)
        await asyncio.gather(_copy(reader, outward), _copy(inward, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


def coded(entry: str, job: dict[str, Any]) -> Any:
    """The output of the agent's own function, which gets the input; a coroutine is awaited."""
    file, _, name = entry.partition(":")
    sys.path.insert(0, str(HERE))
    function = getattr(_module(HERE / file), name)
    output = function(job["input"])
    return asyncio.run(_awaited(output)) if inspect.isawaitable(output) else output


async def _awaited(output: Any) -> Any:
    return await output


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def work(border: Border, entry: str) -> None:
    """Do the job and hand its result over; one revision when it does not fit."""
    job = border.job()
    loop: dict[str, Any] = {}
    if entry:
        output: Any = coded(entry, job)
    else:
        sys.path.insert(0, str(HERE))
        loop = runpy.run_path(str(HERE / "agents" / "loop.py"))
        output = loop["run"](job, border.send)
    status, verdict = border.send("/result", {"output": output})
    if status != 422 or verdict.get("last"):
        return
    fault = str(verdict.get("fault"))
    if loop:
        border.send("/result", {"output": loop["revise"](job, border.send, output, fault)})
        return
    border.send("/result", {"error": f"The agent's answer does not fit its output schema: {fault}"})


def main() -> int:
    """Set the endpoints up, work, and report what went wrong where the result would have gone."""
    # The runner begins to stream with the first line, and only then notices that its client has left.
    print("started", flush=True)
    path = os.environ["ENTREPOT_BORDER"]
    border = Border(path)
    entry = os.environ.get("ENTREPOT_ENTRY", "")
    if entry:
        relay = Relay(path)
        relay.start()
        base = f"http://127.0.0.1:{relay.port}"
        # The keys are empty words: the run's rights are those of its border, there is nothing here to steal.
        os.environ.update(OPENAI_BASE_URL=f"{base}/v1", OPENAI_API_KEY="none", MCP_URL=f"{base}/mcp")
    try:
        work(border, entry)
    except Exception as error:  # noqa: BLE001 - the agent's code may raise anything; the run must say so and end
        told = str(error) or type(error).__name__
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            border.send(
                "/result", {"error": told if type(error).__name__ == "Failed" else f"{type(error).__name__}: {told}"}
            )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
