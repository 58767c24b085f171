"""The scaling server against a scripted admin API: it plans, asks twice, and respects its guards."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from mcp import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from servers.kit import Environment
from servers.scaling.guards import Bounds
from servers.scaling.planner import Signals, Targets, plan
from servers.scaling.server import application

pytestmark = pytest.mark.anyio


@dataclass
class Hub:
    """A scripted admin API on a unix socket, and a clock to move."""

    folder: Path
    now: float = 1000.0
    wanted: int = 1
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    async def answer(self, request: Request) -> JSONResponse:
        self.asked.append((request.method, request.headers.get("authorization", "")))
        if request.headers.get("authorization") != "Bearer right":
            return JSONResponse({"title": "Unauthenticated", "code": "unauthenticated"}, 401)
        if request.method == "PUT":
            self.wanted = json.loads(await request.body())["replicas"]
        child = {"name": "rag", "kind": "http", "state": "running", "wanted": self.wanted, "running": 1, "cpu": 1.4}
        return JSONResponse({"replicas": [child]})

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        routes = [
            Route("/api/v1/replicas", self.answer),
            Route("/api/v1/replicas/{child}", self.answer, methods=["PUT"]),
        ]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.folder / "hub.sock"))
            listener.listen()
            server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off"))
            async with anyio.create_task_group() as group:
                group.start_soon(server.serve, [listener])
                yield
                server.should_exit = True

    def client(self, mode: str = "2026-07-28", **values: str) -> Client:
        token = self.folder / "token"
        if not token.exists():
            token.write_text("right\n")
        env = {"ENTREPOT_SOCKET": str(self.folder / "hub.sock"), "ENTREPOT_TOKEN_FILE": str(token), **values}
        return Client(application(Environment(env), lambda: self.now).server, mode=mode)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def code(result: Any) -> str:
    assert result.is_error, result.structured_content
    return result.meta["dev.entrepot/error"]["code"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_change_is_a_dry_run_first_then_made_then_cooling_down(hub: Hub, mode: str) -> None:
    with anyio.fail_after(20):
        async with hub.serving(), hub.client(mode) as client:
            listed = await client.call_tool("list_replicas", {})
            assert listed.structured_content and listed.structured_content["replicas"][0]["name"] == "rag"
            tried = await client.call_tool("scale", {"child": "rag", "replicas": 2})
            assert tried.structured_content and not tried.structured_content["changed"] and hub.wanted == 1
            made = await client.call_tool("scale", {"child": "rag", "replicas": 2, "dry_run": False})
            assert made.structured_content and made.structured_content["changed"] and hub.wanted == 2
            again = {"child": "rag", "replicas": 3, "dry_run": False}
            assert code(await client.call_tool("scale", again)) == "cooling-down"
            hub.now += 61
            await client.call_tool("scale", again)
            assert hub.wanted == 3


async def test_bounds_and_unknown_children_are_refused(hub: Hub) -> None:
    with anyio.fail_after(20):
        async with hub.serving(), hub.client(ENTREPOT_SCALING_MAX="2", ENTREPOT_SCALING_MIN="1") as client:
            assert code(await client.call_tool("scale", {"child": "rag", "replicas": 3})) == "out-of-bounds"
            assert code(await client.call_tool("scale", {"child": "rag", "replicas": 0})) == "out-of-bounds"
            assert code(await client.call_tool("get_replicas", {"child": "nobody"})) == "unknown-child"
            assert code(await client.call_tool("scale", {"child": "rag", "replicas": -1})) == "invalid-arguments"


async def test_a_proposal_uses_the_load_the_platform_reports(hub: Hub) -> None:
    with anyio.fail_after(20):
        async with hub.serving(), hub.client() as client:
            made = await client.call_tool("plan_scaling", {"child": "rag"})
    assert made.structured_content and made.structured_content["proposed"] == 2
    assert "CPU 1.40" in made.structured_content["reason"]


async def test_alone_or_refused_it_says_what_to_set(hub: Hub) -> None:
    with anyio.fail_after(20):
        async with Client(application(Environment({})).server) as client:
            result = await client.call_tool("list_replicas", {})
            assert code(result) == "not-configured" and result.meta
            assert "ENTREPOT_URL" in result.meta["dev.entrepot/error"]["hint"]
        async with hub.client() as client:
            assert code(await client.call_tool("list_replicas", {})) == "platform-unreachable"
        (hub.folder / "token").write_text("wrong")
        async with hub.serving(), hub.client() as client:
            assert code(await client.call_tool("list_replicas", {})) == "platform-refused"


@pytest.mark.parametrize(
    ("current", "signals", "wanted"),
    [
        (0, Signals(queue=3), 1),
        (0, Signals(), 0),
        (2, Signals(cpu=0.7), 2),
        (2, Signals(cpu=0.74), 2),
        (2, Signals(cpu=1.4), 4),
        (2, Signals(queue=1000), 4),
        (4, Signals(cpu=0.1), 3),
        (1, Signals(cpu=0.0), 1),
        (1, Signals(cpu=0.0, idle_seconds=901), 0),
        (1, Signals(queue=5, idle_seconds=901), 2),
        (6, Signals(cpu=7.0), 8),
        (3, Signals(), 3),
    ],
)
def test_the_plan_follows_the_load_in_small_steps(current: int, signals: Signals, wanted: int) -> None:
    assert plan(current, signals, Targets(), Bounds(), None).replicas == wanted


def test_no_plan_changes_anything_while_cooling_down() -> None:
    made = plan(1, Signals(cpu=5), Targets(), Bounds(), 10.0)
    assert made.replicas == 1 and "cooling down" in made.reason
