"""Every fault in front of every kind of server: the outcome is that of the table in docs/reference/faults.toml.

Whatever breaks, a write is done at most once, a read that broke off is sent again without its caller's knowing, the
next call works when the fault is over, and nothing spins afterwards.
"""

from __future__ import annotations

import asyncio
import sys
import time
import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from mcp import Client
from starlette.types import Receive, Scope, Send

from benchmarks import ledger as ledger_module
from benchmarks.ledger import Ledger, Web
from hub.catalog.manifest import ServerSpec
from hub.identity.principal import LOCAL_ADMINISTRATOR
from hub.settings import Settings
from servers.kit import Environment
from servers.openapi import call as openapi_call
from servers.openapi.server import application
from tests.support.faults import FaultyProxy, Request
from tests.support.hub import RunningHub, events, modern_headers, modern_message, running_hub
from tests.support.installation import installed
from tests.support.upstreams import serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

TABLE = tomllib.loads((Path(__file__).parents[2] / "docs" / "reference" / "faults.toml").read_text())
CODES = {
    "server-down": "down",
    "outcome-unknown": "unknown",
    "server-timeout": "timeout",
    "server-failed": "failed",
}
TERMS: dict[str, Any] = {
    "deadlines": {"connect": 5, "call": 1.5, "idle": 1, "total": 20},
    "health": {"active": {"interval": 0}, "passive": {"failures": 10_000}},
}
"""Short deadlines, and a breaker that stays out of the way: it has tests of its own."""

MEBIBYTE = 2**20


def wanted(kind: str) -> dict[str, str]:
    """What the table says of one kind."""
    return {fault: row[kind] for fault, row in TABLE["faults"].items() if kind in row}


def is_call(request: Request) -> bool:
    """A call, and nothing of what surrounds it."""
    return b'"tools/call"' in request.body


@asynccontextmanager
async def behind(home: Path, **spec: Any) -> AsyncGenerator[tuple[RunningHub, FaultyProxy, Web]]:
    """A hub, the proxy, and a ledger behind it."""
    web = Web(Ledger(home / "ledger.jsonl"))
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(web, lifespan=False))
        proxy = await stack.enter_async_context(FaultyProxy(base + spec.pop("path", "/mcp")))
        running = await stack.enter_async_context(running_hub(home / "hub", max_result_bytes=4 * MEBIBYTE))
        declared = ServerSpec.model_validate({"name": "ledger", "url": proxy.url} | TERMS | spec)
        await running.hub.catalog.add(LOCAL_ADMINISTRATOR, declared)
        yield running, proxy, web


async def called(running: RunningHub, tool: str, key: str, **more: str) -> str:
    """What becomes of one call, in the table's words."""
    params = {"name": tool, "arguments": {"key": key} | more}
    async with asyncio.timeout(20):
        message = events(await running.modern("tools/call", params))[-1]
    if "error" not in message:
        return "answered"
    data = message["error"]["data"]
    assert data["owner"] == "server"
    assert "'ledger'" in message["error"]["message"]
    if data.get("effect") == "unknown" and tool == "write":
        assert {"read", "slow_read"} <= set(data["reconcile"]["tools"]), "the error says how to find out"
    return CODES[data["code"]]


async def rested() -> None:
    """Nothing spins: the process uses far less than a core when nobody asks for anything."""
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - used < 0.5 * (time.perf_counter() - began)


Arm = Callable[[FaultyProxy, Web, str, int], None]


def arm(proxy: FaultyProxy, _web: Web, fault: str, times: int) -> None:
    proxy.arm(fault, is_call, times)


@pytest.mark.parametrize("kind", ["modern", "legacy"])
async def test_faults_of_an_http_server(kind: str, tmp_path: Path) -> None:
    async with behind(tmp_path, era=kind) as (running, proxy, web):
        await each(running, proxy, web, kind, arm)


async def test_faults_of_the_old_pair_of_transports(tmp_path: Path) -> None:
    async with behind(tmp_path, era="legacy", path="/sse") as (running, proxy, web):
        await each(running, proxy, web, "sse", arm_sse)


def arm_sse(proxy: FaultyProxy, web: Web, fault: str, times: int) -> None:
    """Faults of the answer are made on the server's stream, where the answer comes."""
    web.spoil = None
    if fault not in SPOILT:
        proxy.arm(fault, is_call, times)
        return
    left = times

    def spoil(message: dict[str, Any], body: bytes) -> bytes | None:
        nonlocal left
        left -= 1
        if left < 0:
            return b"event: message\ndata: " + body + b"\n\n"
        piece = SPOILT[fault](orjson.dumps(message["id"]))
        return piece and b"event: message\ndata: " + piece + b"\n\n"

    web.spoil = spoil


SPOILT: dict[str, Callable[[bytes], bytes | None]] = {
    "the stream ends": lambda _: None,
    "mismatched id": lambda _: b'{"jsonrpc":"2.0","id":"nobody","result":{}}',
    "not JSON": lambda _: b"starting up...",
    "invalid UTF-8": lambda one: b'{"jsonrpc":"2.0","id":%b,"result":{"content":"\xff"}}' % one,
    "deep JSON": lambda one: b'{"jsonrpc":"2.0","id":%b,"result":%b%b}' % (one, b"[" * 100_000, b"]" * 100_000),
    "duplicate keys": lambda one: b'{"jsonrpc":"2.0","id":%b,"result":{"content":[],"content":[]}}' % one,
}


async def each(running: RunningHub, proxy: FaultyProxy, web: Web, kind: str, arm: Arm) -> None:
    """Every fault of a kind: what becomes of a write and of a read, and of the next one."""
    found: dict[str, str] = {}
    for fault, expected in wanted(kind).items():
        arm(proxy, web, fault, 10**9)
        found[fault] = await called(running, "write", fault)
        assert web.ledger.entries("write").count(fault) <= 1, f"{fault}: written twice"
        if expected in ("down", "unknown"):
            arm(proxy, web, fault, 1)
            assert await called(running, "read", fault) == "answered", f"{fault}: a read"
        proxy.disarm()
        web.spoil = None
        assert await called(running, "write", f"after {fault}") == "answered"
    assert found == wanted(kind)
    await rested()


async def test_a_hundred_calls_at_once_survive_every_fault_and_nothing_spins_afterwards(tmp_path: Path) -> None:
    async with behind(tmp_path, era="modern") as (running, proxy, web):
        for fault in ("reset on accept", "reset within the answer", "502", "truncated stream", "half-close"):
            proxy.arm(fault, is_call)
            outcomes = await asyncio.gather(*(called(running, "write", f"{fault} {n}") for n in range(100)))
            assert set(outcomes) == {"unknown"}, fault
        proxy.disarm()
        assert await called(running, "write", "well") == "answered"
        written = web.ledger.entries("write")
        assert len(written) == len(set(written))
        vitals = running.hub.pool.vitals("ledger")
        assert vitals is not None and (vitals.running, vitals.queued) == (0, 0)
        await rested()


async def test_callers_that_leave_at_any_moment_leave_nothing_behind(tmp_path: Path) -> None:
    async with behind(tmp_path, era="modern") as (running, proxy, _):
        proxy.arm("black hole", is_call)
        tasks = [asyncio.create_task(called(running, "write", str(n))) for n in range(100)]
        for task in tasks:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        proxy.disarm()
        assert await called(running, "write", "well") == "answered"
        async with asyncio.timeout(5):
            while (vitals := running.hub.pool.vitals("ledger")) is None or vitals.running:
                await asyncio.sleep(0.02)
        await rested()


async def test_an_idempotency_key_lets_a_write_be_sent_again(tmp_path: Path) -> None:
    async with behind(tmp_path, era="modern") as (running, proxy, web):
        proxy.arm("reset before the answer", is_call, 1)
        params = {"name": "write", "arguments": {"key": "k"}}
        answer = await running.modern("tools/call", params, meta={"dev.entrepot/idempotencyKey": "7"})
        assert "result" in events(answer)[-1]
        assert web.ledger.entries("write") == ["k", "k"], "the server is the one that knows the key"


async def test_a_tool_that_may_be_repeated_is_sent_again_a_few_times_only(tmp_path: Path) -> None:
    async with behind(tmp_path, era="modern") as (running, proxy, web):
        proxy.arm("reset before the answer", is_call)
        assert await called(running, "put", "k") == "unknown"
        assert web.ledger.entries("put") == ["k"] * 4


async def test_a_server_that_breaks_twice_is_not_noticed_by_who_may_repeat_and_gets_no_write_twice(
    tmp_path: Path,
) -> None:
    async with behind(tmp_path, era="modern") as (running, proxy, web):
        proxy.arm("reset before the answer", is_call, 2)
        assert await called(running, "put", "k") == "answered"
        proxy.arm("reset before the answer", is_call, 2)
        assert await called(running, "write", "w") == "unknown"
        assert web.ledger.entries("write") == ["w"]


async def test_a_restarted_server_works_on_the_next_call_with_nobody_doing_anything(tmp_path: Path) -> None:
    for kind, path in (("legacy", "/mcp"), ("legacy", "/sse")):
        async with behind(tmp_path / path[1:], era=kind, path=path) as (running, _, web):
            session = await running.session()
            called_in = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "write"}}
            for turn in range(3):
                params = {"name": "write", "arguments": {"key": f"old {turn}"}}
                answer = await running.http.post("/mcp", json=called_in | {"params": params}, headers=session)
                assert "result" in events(answer)[-1]
                assert await called(running, "write", f"new {turn}") == "answered"
                web.forget()
            written = web.ledger.entries("write")
            assert len(written) == len(set(written)) == 6


async def test_two_hundred_blips_use_nothing_up(tmp_path: Path) -> None:
    async with behind(tmp_path, era="modern", health={"active": {"interval": 0}}) as (running, proxy, _):
        for number in range(200):
            proxy.arm("reset on accept" if number % 2 else "502", is_call, 1)
            assert await called(running, "read", str(number)) == "answered"
        assert await called(running, "write", "last") == "answered"


SCRIPT = str(Path(ledger_module.__file__))


@pytest.mark.slow
async def test_faults_of_a_child(tmp_path: Path) -> None:
    """The child itself misbehaves, as its call's arguments say; the runner stands between it and the hub."""
    with installed(tmp_path / "home") as here:
        book = tmp_path / "ledger.jsonl"
        child: dict[str, Any] = {"name": "ledger", "sandbox": "trusted"}
        child |= {"command": [sys.executable, SCRIPT, str(book), "--stdio"]} | TERMS
        socket = httpx.AsyncHTTPTransport(uds=str(Settings(home=here.home).runner_socket))
        (tmp_path / "declared.json").write_bytes(orjson.dumps({"servers": [child]}))
        here.run("apply", str(tmp_path / "declared.json"), code=0)
        async with (
            httpx.AsyncClient(base_url=here.url, timeout=30) as http,
            httpx.AsyncClient(transport=socket, base_url="http://runner", timeout=30) as runner,
        ):
            caller = Caller(http, here.token())
            found: dict[str, str] = {}
            for number, (fault, expected) in enumerate(wanted("stdio").items()):
                # Begin with a clean record: a child that dies many times in a moment is left alone for a while.
                (await runner.post("/children/ledger/restart")).raise_for_status()
                found[fault] = await caller.called("write", fault, fault=fault)
                assert Ledger(book).entries("write").count(fault) <= 1, f"{fault}: written twice"
                if expected in ("down", "unknown"):
                    again = await caller.called("read", fault, fault=fault, once=str(tmp_path / f"once-{number}"))
                    assert again == "answered", f"{fault}: a read"
                assert await caller.called("write", f"after {fault}") == "answered", fault
            assert found == wanted("stdio")


@dataclass
class Caller:
    """Calls by hand, over the network."""

    http: httpx.AsyncClient
    token: str

    async def called(self, tool: str, key: str, **more: str) -> str:
        """What becomes of one call, in the table's words."""
        params = {"name": tool, "arguments": {"key": key} | more}
        headers = modern_headers("tools/call", params) | {"authorization": f"Bearer {self.token}"}
        answer = await self.http.post("/mcp", json=modern_message("tools/call", params), headers=headers)
        message = events(answer)[-1]
        if "error" not in message:
            return "answered"
        assert "'ledger'" in message["error"]["message"]
        return CODES[message["error"]["data"]["code"]]


async def test_faults_of_an_api_behind_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenAPI server makes the tool's own error of what its API does, and repeats nothing."""
    monkeypatch.setattr(openapi_call, "CALL_SECONDS", 0.5)
    done: list[str] = []

    async def api(scope: Scope, _receive: Receive, send: Send) -> None:
        done.append(scope["query_string"].decode())
        head = [(b"content-type", b"application/json"), (b"content-length", b"12")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b'{"ok": true}'})

    parameter = {"name": "key", "in": "query", "schema": {"type": "string"}}
    write: dict[str, Any] = {"operationId": "write", "parameters": [parameter], "responses": {"200": {}}}
    described: dict[str, Any] = {"openapi": "3.1.0", "paths": {"/write": {"post": write}}}
    (tmp_path / "api.json").write_bytes(orjson.dumps(described))
    async with serving(api, lifespan=False) as base, FaultyProxy(base) as proxy:
        values = {"ENTREPOT_OPENAPI_SPEC": str(tmp_path / "api.json"), "ENTREPOT_OPENAPI_BASE_URL": proxy.url}
        server = application(Environment(values)).server
        async with Client(server, mode="2026-07-28") as client, asyncio.timeout(60):
            for number, fault in enumerate(wanted("openapi")):
                proxy.arm(fault, lambda _: True)
                result = await client.call_tool("write", {"key": str(number)})
                assert result.is_error, fault
                assert done.count(f"key={number}") <= 1, f"{fault}: written twice"
                proxy.disarm()
                assert not (await client.call_tool("write", {"key": f"after-{number}"})).is_error, fault
