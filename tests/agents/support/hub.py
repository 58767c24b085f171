"""A scripted hub: MCP per server, models and run keys on one local socket. It counts what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ToolAnswer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
ModelAnswer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

LEAVE = {
    "text": "Every employee has 25 days of paid annual leave. Unused days expire on 31 March of the next year.",
    "score": 0.9,
    "language": "en",
    "citation": {"document": "0123456789ab", "title": "Leave policy", "section": "Annual leave", "path": "leave.md"},
}
COFFEE = {
    "text": "The coffee machine on the second floor is cleaned every Friday by the facility team.",
    "score": 0.4,
    "language": "en",
    "citation": {"document": "ba9876543210", "title": "Office", "section": "Kitchen", "path": "office.md"},
}


def structured(content: dict[str, Any]) -> dict[str, Any]:
    """A tool result with structured content."""
    return {"content": [{"type": "text", "text": orjson.dumps(content).decode()}], "structuredContent": content}


def completion(text: str, **message: Any) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
    return {"id": "c", "object": "chat.completion", "model": "small", "choices": [choice], "usage": usage}


def tool(name: str, **annotations: Any) -> dict[str, Any]:
    """A tool definition."""
    return {"name": name, "description": name, "inputSchema": {"type": "object"}, "annotations": annotations}


@dataclass
class ScriptedHub:
    """What it offers, and what was asked of it."""

    servers: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict[str, dict[str, dict[str, Any]]])
    answers: dict[str, ToolAnswer] = field(default_factory=dict[str, ToolAnswer])
    model: ModelAnswer | None = None
    native_tools: bool = True
    tool_calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    model_calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    issued: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    valid: set[str] = field(default_factory=set[str])
    revoked: list[str] = field(default_factory=list[str])
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a tool or a model has been asked."""

    def offer(self, address: str, answer: ToolAnswer, **annotations: Any) -> None:
        """Offer `server/tool`."""
        server, _, name = address.partition("/")
        self.servers.setdefault(server, {})[name] = tool(name, **annotations)
        self.answers[address] = answer

    def as_run(self) -> dict[str, Any]:
        """How the hub tells who calls when the newest run key does."""
        issued = self.issued[-1]
        return {
            "subject": f"run:{len(self.issued) - 1}",
            "name": issued["name"],
            "kind": "run",
            "on_behalf_of": issued["on_behalf_of"],
            "scopes": ["call", "models"],
        }

    def app(self) -> Starlette:
        """The hub's face."""
        return Starlette(
            routes=[
                Route("/mcp/s/{server}", self._mcp, methods=["POST"]),
                Route("/v1/models", self._models, methods=["GET"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/api/v1/models", self._facts, methods=["GET"]),
                Route("/api/v1/tokens", self._issue, methods=["POST"]),
                Route("/api/v1/tokens/{key}", self._revoke, methods=["DELETE"]),
                Route("/api/v1/servers/agents/refresh", self._refresh, methods=["POST"]),
            ]
        )

    def _knows(self, request: Request) -> bool:
        return request.headers.get("authorization", "").removeprefix("Bearer ") in self.valid

    async def _mcp(self, request: Request) -> Response:
        message = orjson.loads(await request.body())
        server: str = request.path_params["server"]
        if not self._knows(request):
            return JSONResponse({"detail": "no valid key"}, 401)
        if server not in self.servers:
            return JSONResponse({"title": "There is no such server.", "code": "not-found"}, 404)
        params = message["params"]
        if message["method"] == "tools/list":
            result: dict[str, Any] = {"tools": list(self.servers[server].values()), "ttlMs": 0, "cacheScope": "private"}
        else:
            assert request.headers["mcp-name"] == params["name"]
            address = f"{server}/{params['name']}"
            self.tool_calls.append((address, params["arguments"]))
            self.asked.set()
            result = await self.answers[address](params["arguments"])
        complete = {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **result}}
        return JSONResponse(complete)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "small", "object": "model"}]})

    async def _facts(self, request: Request) -> Response:
        return JSONResponse({"models": [{"name": "small", "kind": "chat", "native_tools": self.native_tools}]})

    async def _chat(self, request: Request) -> Response:
        if not self._knows(request):
            return JSONResponse({"error": {"message": "no valid key"}}, 401)
        body = orjson.loads(await request.body())
        self.model_calls.append(body)
        self.asked.set()
        assert self.model is not None
        return JSONResponse(await self.model(body))

    async def _issue(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer service-key"
        wanted = orjson.loads(await request.body())
        key = f"key_{len(self.issued)}"
        self.issued.append(wanted)
        self.valid.add(f"secret-{key}")
        return JSONResponse({"id": key, "token": f"secret-{key}"}, 201)

    async def _revoke(self, request: Request) -> Response:
        key: str = request.path_params["key"]
        self.revoked.append(key)
        self.valid.discard(f"secret-{key}")
        return Response(status_code=204)

    async def _refresh(self, request: Request) -> Response:
        return JSONResponse({"name": "agents"})
