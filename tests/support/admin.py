# ruff: noqa: E501 -- rows of data read best as rows
"""A scripted hub for the pages: the admin API, an MCP endpoint and a model, with data as a real one has it.

Only for tests of the registry; the whole hub is driven elsewhere. Every request is kept in `asked`.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.errors import Unauthenticated
from hub.identity.principal import Principal

AT = "2026-11-21T04:40:12Z"


def picture() -> str:
    """A small PNG as base64: bands of container paint."""
    colours = [(217, 98, 43), (47, 147, 163), (224, 176, 74), (125, 143, 151)]
    line = b"\0" + b"".join(bytes(colours[(x // 40) % 4]) for x in range(320))
    rows = line * 90
    head = struct.pack(">IIBBBBB", 320, 90, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    ).decode()


def server(name: str, title: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    """A server as the API tells it."""
    counts = {"tool": 6, "prompt": 0, "resource": 0, "template": 0} | more.pop("counts", {})
    base = {
        "name": name, "title": title, "description": "", "kind": "http", "address": f"https://{name}.example.com/mcp",
        "era": "auto", "eras": ["modern", "legacy"], "state": state, "reason": "", "enabled": True, "internal": False,
        "counts": counts, "discovered": AT, "changed": "2026-11-20T18:02:00Z",
    }  # fmt: skip
    return base | more


SERVERS = [
    server("github", "GitHub", description="Issues, pull requests and code search of the company's organisation.", counts={"tool": 41, "prompt": 2}),
    server("tickets", "Ticket desk", "down", description="Customer tickets of the support team.", eras=["legacy"], counts={"tool": 9},
           reason="tickets.example.com:443 refused the connection (3 attempts, last 12 s ago). Its operator must start it."),
    server("weather", "天气服务", "degraded", description="中国城市的实时天气与七日预报。", kind="package", address="pypi:mcp-server-weather==1.4.0",
           reason="Answers in 4.2 s on average; 2 of the last 10 calls timed out.", counts={"tool": 3}),
    server("memory", "Memory", kind="stdio", address="npx -y @modelcontextprotocol/server-memory", eras=["legacy"], description="A knowledge graph that agents can write to.", counts={"tool": 9}),
    server("rag", "Documents", internal=True, kind="internal", address="", description="Searches the ingested documents, with citations.", counts={"tool": 5, "resource": 12}),
    server("logs", "Logs", internal=True, kind="internal", address="", description="Searches what the hub and its children write.", counts={"tool": 4}),
    server("agents", "Agents", internal=True, kind="internal", address="", description="Each agent as a tool.", eras=["modern"], counts={"tool": 2}),
    server("payroll", "Payroll", "new", description="Registered a moment ago, not asked yet.", eras=[], counts={"tool": 0}, discovered=None),
]  # fmt: skip

FORECAST = {
    "name": "forecast", "title": "Weather forecast",
    "description": "Forecast for a city.\n\n- Give the **city** in any language.\n- See [the manual](https://example.com/manual).",
    "annotations": {"readOnlyHint": True, "openWorldHint": True},
    "inputSchema": {"type": "object", "required": ["city", "days"], "properties": {
        "city": {"type": "string", "description": "Name of the city, such as 上海."},
        "days": {"type": "integer", "minimum": 1, "maximum": 7, "default": 3},
        "units": {"type": "string", "enum": ["metric", "imperial"], "default": "metric"},
        "hourly": {"type": "boolean", "description": "Hour by hour."},
        "area": {"type": "object", "description": "A box instead of a city.", "properties": {"north": {"type": "number"}, "west": {"type": "number"}}},
    }},
    "outputSchema": {"type": "object", "properties": {"city": {"type": "string"}, "highs": {"type": "array", "items": {"type": "number"}}}},
}  # fmt: skip
ALERT: dict[str, Any] = {
    "name": "cancel_alert",
    "description": "Cancels a weather alert.",
    "annotations": {"destructiveHint": True},
    "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
}
LIBRARIAN = {
    "name": "librarian",
    "title": "Librarian",
    "inputSchema": {
        "type": "object",
        "required": ["question"],
        "properties": {"question": {"type": "string", "maxLength": 2000, "description": "What you want to know."}},
    },
}
AGENTS = [
    {"name": "librarian", "title": "Librarian", "description": "Answers from the ingested documents, with citations. Says so when they do not tell.", "model": "local", "tools": ["rag/search", "rag/read"], "limits": {"steps": 8, "tokens": 20000, "seconds": 120}, "sandbox": "agent", "enabled": True, "bundled": True, "last_run": AT},
    {"name": "operator", "title": "Operator", "description": "Reads logs and scaling state, explains what is wrong and proposes an action.", "model": "local", "tools": ["logs/search", "scaling/list"], "limits": {"steps": 12}, "sandbox": "agent", "enabled": True, "bundled": True, "last_run": None},
]  # fmt: skip
MODELS: list[dict[str, Any]] = [
    {"name": "local", "kind": "chat", "description": "SmolLM2 135M, from a package: small, private, without a download.", "url": "http://runner/s/local/v1", "remote_name": "smollm2-135m", "native_tools": False, "internal": True, "enabled": True, "state": "ready", "reason": "", "facts": {"context": 8192, "parameters": "135M"}},
    {"name": "embedder", "kind": "embedding", "description": "Universal sentence encoder.", "url": "http://runner/s/embedder/v1", "remote_name": "use", "native_tools": False, "internal": True, "enabled": True, "state": "ready", "reason": "", "facts": {"dimensions": 512}},
    {"name": "qwen-32b", "kind": "chat", "description": "通义千问 32B，数据中心 GPU。", "url": "http://gpu-2.example.com:8000/v1", "remote_name": "Qwen3-32B", "native_tools": True, "internal": False, "enabled": True, "state": "down", "reason": "gpu-2.example.com:8000 did not answer within 10 s.", "facts": {}},
]  # fmt: skip
STEPS = [
    {"number": 1, "kind": "model", "name": "local", "started": AT, "milliseconds": 1840, "outcome": "ok", "request": {"messages": [{"role": "user", "content": "How long are invoices kept?"}]}, "response": {"tool_calls": [{"name": "rag/search", "arguments": {"query": "invoice retention"}}]}},
    {"number": 2, "kind": "tool", "name": "rag/search", "started": AT, "milliseconds": 63, "outcome": "ok", "request": {"query": "invoice retention"}, "response": {"hits": [{"title": "Records policy", "text": "Invoices are kept for ten years."}]}},
    {"number": 3, "kind": "model", "name": "local", "started": AT, "milliseconds": 2410, "outcome": "ok", "request": {"messages": 4}, "response": {"content": "Ten years. [1]"}},
]  # fmt: skip


def run(name: str, state: str, **more: Any) -> dict[str, Any]:
    """A run as the API tells it."""
    return {
        "id": name, "agent": "librarian", "state": state, "subject": "run:" + name, "on_behalf_of": "person:admin", "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
        "created": AT, "started": AT, "finished": None if state == "running" else "2026-11-21T04:40:17Z", "input": {"question": "How long are invoices kept?"},
        "output": None, "error": None, "usage": {"steps": 3, "input_tokens": 1204, "output_tokens": 86},
    } | more  # fmt: skip


def record(
    number: int, event: str, target: str, outcome: str, subject: str, spent: float, name: str = ""
) -> dict[str, Any]:
    """An audit record as the API tells it."""
    return {"segment": "w0", "number": number, "at": AT, "event": event, "subject": subject, "on_behalf_of": "", "server": name, "target": target, "outcome": outcome, "milliseconds": spent, "trace": "4bf92f3577b34da6a3ce929d0e0e4736", "detail": {}}  # fmt: skip


EXAMINED: list[dict[str, Any]] = [
    {"name": "connection", "ok": True, "detail": "weather.test is 203.0.113.7, port 443 answers (12 ms)", "hint": ""},
    {"name": "tls-expired", "ok": False, "advice": False, "detail": "certificate has expired", "owner": "server",
     "hint": "Renew the certificate.", "means": "The server's certificate has expired.", "docs": "docs/doctor.md"},
    {"name": "clock-skew", "ok": True, "advice": True, "detail": "<b>86400 s</b> ahead", "owner": "identity provider",
     "hint": "", "means": "", "docs": "docs/doctor.md"},
]  # fmt: skip
"""An examination with a fault and an advice."""


LIMITS: list[dict[str, Any]] = [
    {"name": "every-key", "principal": "*", "rate": "10/second", "burst": 20, "usage": [{"whose": "key:01h", "kind": "rate", "used": 3.5}]},
    {"name": "all", "quota": "1000/day", "concurrent": None, "contact": "ops <b>", "usage": []},
]  # fmt: skip

FIGURES = {"calls": 1200, "errors": 6, "error_rate": 0.5, "p50": 0.012, "p95": 0.09}

ROLLOUT: dict[str, Any] = {
    "server": "weather", "window": 300, "started": AT,
    "stable": {"version": "1.4", "address": "https://weather.example/mcp", "state": "ready", "place": "weather", "figures": FIGURES},
    "canary": {"version": "2.0", "address": "https://weather-2.example/mcp", "state": "ready", "place": "weather.2", "figures": FIGURES},
    "rules": {"share": 10, "groups": ["beta"], "clients": ["claude-*"], "when": {"X-Canary": "yes"}},
    "last": {"outcome": "rolled-back", "reason": "10 of 10 calls failed", "at": AT, "version": "1.9", "address": ""},
}  # fmt: skip


@dataclass
class ScriptedHub:
    """The faces of a hub, from data that a test may change before it asks."""

    servers: list[dict[str, Any]] = field(default_factory=lambda: [dict(each) for each in SERVERS])
    definitions: list[dict[str, Any]] = field(default_factory=lambda: [FORECAST, ALERT])
    agents: list[dict[str, Any]] = field(default_factory=lambda: list(AGENTS))
    models: list[dict[str, Any]] = field(default_factory=lambda: list(MODELS))
    runs: list[dict[str, Any]] = field(
        default_factory=lambda: [
            run("run_live", "running"),
            run("run_7k2m", "done", output={"answer": "Ten years. [1]", "citations": [{"title": "Records policy"}]}),
            run("run_5x1c", "failed", error="The model did not answer within 60 s."),
        ]
    )
    records: list[dict[str, Any]] = field(
        default_factory=lambda: [
            record(6, "tool:call", "create_issue", "ok", "key:ci", 212, "github"),
            record(5, "tool:call", "forecast", "tool-error", "person:admin", 1840, "weather"),
            record(4, "tool:call", "list_tickets", "failed", "key:support-bot", 10012, "tickets"),
            record(3, "model:use", "local", "ok", "run:run_7k2m", 2410),
            record(2, "tool:call", "delete_repo", "denied", "key:ci", 0.4, "github"),
        ]
    )
    tokens: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {
                "id": "key_1",
                "name": "build machine",
                "prefix": "ent_3f9a",
                "scopes": ["call:github"],
                "kind": "service",
                "on_behalf_of": "",
                "created": AT,
                "expires": "2027-02-19T00:00:00Z",
                "revoked": None,
                "last_used": AT,
            },
            {
                "id": "key_2",
                "name": "客服机器人",
                "prefix": "ent_81c0",
                "scopes": ["call:tickets", "models"],
                "kind": "service",
                "on_behalf_of": "",
                "created": AT,
                "expires": None,
                "revoked": None,
                "last_used": None,
            },
            {
                "id": "key_3",
                "name": "old laptop",
                "prefix": "ent_77d2",
                "scopes": ["call"],
                "kind": "person",
                "on_behalf_of": "",
                "created": AT,
                "expires": None,
                "revoked": AT,
                "last_used": AT,
            },
        ]  # fmt: skip
    )
    chain: dict[str, Any] = field(default_factory=lambda: {"ok": True, "segments": 3, "records": 18204})
    refuse: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict[str, tuple[int, dict[str, Any]]])
    """Path prefix to (status, problem): what is broken or denied."""
    result: dict[str, Any] = field(
        default_factory=lambda: {
            "resultType": "complete",
            "content": [
                {"type": "text", "text": "上海：晴，最高 18 °C。\nShanghai: clear, 18 °C at most."},
                {"type": "image", "mimeType": "image/png", "data": picture()},
            ],
            "structuredContent": {"city": "上海", "highs": [18, 17, 19]},
            "isError": False,
        }
    )
    as_stream: bool = False
    asked: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])

    def app(self) -> Starlette:
        """The faces as an ASGI app."""
        return Starlette(routes=[Route("/{path:path}", self._any, methods=["GET", "POST", "PUT", "DELETE"])])

    async def _any(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/api/v1")
        body = await request.body()
        sent = await request.json() if body else None
        query = f"?{request.url.query}" if request.url.query else ""
        self.asked.append((request.method, path + query, sent))
        for prefix, (status, problem) in self.refuse.items():
            if path.startswith(prefix):
                return JSONResponse({"status": status} | problem, status, media_type="application/problem+json")
        if path.startswith("/mcp"):
            return self._mcp(sent)
        if path == "/v1/chat/completions":
            return JSONResponse({"choices": [{"message": {"role": "assistant", "content": "Good morning, harbour."}}]})
        return self._admin(request.method, path.split("/")[1:], sent, request.query_params.get("dry_run"))

    def _mcp(self, sent: Any) -> Response:
        listed = {"tools": [LIBRARIAN], "ttlMs": 0, "cacheScope": "private"}
        result = listed if sent["method"] == "tools/list" else self.result
        message = {"jsonrpc": "2.0", "id": sent["id"], "result": result}
        if not self.as_stream:
            return JSONResponse(message)
        text = JSONResponse(message).body
        progress = b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\r\n\r\n'
        return Response(progress + b"data: " + bytes(text) + b"\r\n\r\n", media_type="text/event-stream")

    def _admin(self, method: str, path: list[str], sent: Any, dry: str | None) -> Response:
        name = path[1] if len(path) > 1 else ""
        noun = path[0]
        if noun == "import":
            changes: list[dict[str, Any]] = [
                {"action": "create", "kind": "server", "name": each, "diff": {}} for each in sent["mcpServers"]
            ]
            return JSONResponse({"changes": changes, "applied": not dry})
        if noun == "servers" and method == "POST" and not name:
            made = server(
                sent["name"],
                sent.get("title", ""),
                exposed=[{"kind": "tool", "name": "forecast", "exposed": f"{sent['name']}__forecast"}],
            )
            if not dry:
                self.servers.append(made)
            return JSONResponse(made, 201)
        if path[-1] == "doctor":
            return JSONResponse({"checks": EXAMINED})
        if "rollout" in path:
            return JSONResponse(ROLLOUT)
        if noun == "tokens" and method == "POST":
            return JSONResponse(self.tokens[0] | {"name": sent["name"], "token": "ent_7Qf2vYx0kR9sB4nT1mWc8LzA"}, 201)
        if path[-1] == "verify":
            return JSONResponse(self.chain)
        if method == "DELETE":
            return Response(status_code=204)
        lists: dict[str, list[dict[str, Any]]] = {
            "servers": self.servers, "agents": self.agents, "models": self.models, "runs": self.runs, "tokens": self.tokens,
            "limits": LIMITS, "audit": self.records, "collections": [{"name": "support", "title": "Support", "description": "", "members": []}],
            "logs": [{"at": AT, "source": "hub", "level": "info", "message": "ready on 127.0.0.1:4180"}, {"at": AT, "source": "child-weather", "level": "error", "message": "Traceback: timeout after 4.2 s"}],
        }  # fmt: skip
        key = {"audit": "records", "logs": "lines"}.get(noun, noun)
        if method == "PUT":
            return JSONResponse({"name": name} | sent)
        if method == "POST" and path[-1] == "probe":
            return JSONResponse({"name": name, "state": "ready"})
        if noun not in lists:
            return JSONResponse({"status": 404, "code": "not-found", "detail": "no such path"}, 404)
        if not name:
            return JSONResponse({key: lists[noun], "next": None})
        if path[-1] == "definitions":
            told = [{"era": "modern", "kind": "tool", "name": each["name"], "exposed": each["name"], "digest": "sha256:5b1c", "definition": each} for each in self.definitions]  # fmt: skip
            return JSONResponse({"definitions": told})
        found = [each for each in lists[noun] if name in (each.get("name"), each.get("id"))]
        if not found:
            problem = {
                "status": 404,
                "code": "not-found",
                "detail": f"There is no {name}.",
                "owner": "client",
                "trace": "77" * 16,
            }
            return JSONResponse(problem, 404, media_type="application/problem+json")
        return JSONResponse(found[0] | ({"steps": STEPS} if noun == "runs" else {}))


@dataclass(frozen=True)
class PlainCookie:
    """The session cookie as on plain HTTP."""

    name: str = "entrepot_session_4180"

    def set(self, value: str) -> str:
        """The header that signs in."""
        return f"{self.name}={value}; Path=/; HttpOnly; SameSite=Lax"

    def clear(self) -> str:
        """The header that signs out."""
        return f"{self.name}=; Path=/; Max-Age=0"


@dataclass
class ScriptedSessions:
    """Sessions without a database: the link `link` becomes the cookie `signed-in`, once."""

    principal_in: Principal = field(
        default_factory=lambda: Principal("person:admin", "admin", "person", frozenset({"admin", "call", "models"}))
    )
    links: set[str] = field(default_factory=lambda: {"link"})
    cookies: set[str] = field(default_factory=lambda: {"signed-in"})
    cookie: PlainCookie = field(default_factory=PlainCookie)

    async def redeem(self, token: str) -> str:
        """Trade the link for a cookie value."""
        if token not in self.links:
            raise Unauthenticated("This sign-in link was used or has expired.")
        self.links.discard(token)
        self.cookies.add("signed-in")
        return "signed-in"

    async def principal(self, cookie: str) -> Principal | None:
        """Who is signed in."""
        return self.principal_in if cookie in self.cookies else None

    async def sign_out(self, cookie: str) -> None:
        """End the session."""
        self.cookies.discard(cookie)

    def csrf(self, cookie: str) -> str:
        """A token of this session."""
        return f"csrf-of-{cookie}"

    def check_csrf(self, cookie: str, token: str) -> bool:
        """Whether it is this session's."""
        return token == self.csrf(cookie)
