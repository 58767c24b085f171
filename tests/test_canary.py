"""No secret that was ever handed to a hub comes out of it again: a canary in every field, then every face is read.

The hub is a real one. The server and the model behind it are hostile: they answer with the credentials they were sent.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub.admin_api.endpoint import PREFIX
from hub.admin_api.router import ENDPOINTS
from hub.audit.recorder import Audit
from hub.db.engine import Database
from hub.identity.sessions import Sessions
from hub.inprocess import InProcess
from hub.settings import Settings
from registry.routes import routes_of
from registry.screens import Screens
from tests.support.installation import Installation, installed
from tests.support.upstreams import free_socket

CALCULATOR = [sys.executable, str(Path(__file__).parent / "hub" / "cli" / "calculator.py")]
NOWHERE = "http://127.0.0.1:9"
COMMANDS = (
    ("servers", "list"),
    ("servers", "show", "child"),
    ("servers", "show", "loud"),
    ("servers", "refresh", "loud"),
    ("tokens", "list"),
    ("models", "list"),
    ("models", "probe", "loud-model"),
    ("agents", "list"),
    ("runs", "list"),
    ("audit", "search"),
    ("audit", "verify"),
    ("logs", "--limit", "2000"),
    ("status",),
    ("doctor",),
    ("doctor", "loud"),
    ("connect",),
    ("call", "add", "a=1", "b=2"),
    ("call", "no_such_tool"),
)
LET_OUT = "runner.json"
"""What the runner needs to start children after a restart; readable for the hub's user only."""
DATABASE = "entrepot.db"
OPEN_IN_DATABASE = "query of a URL"
"""Addresses are stored as declared; no face shows the query."""


@dataclass
class Loud:
    """A server that works until `is_rude`, then answers everything with what it was sent."""

    url: str = ""
    is_rude: bool = False
    app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (self.is_rude or scope["path"].startswith("/v1")):
            echoed = [*scope["headers"], (b"query", scope["query_string"])]
            said = " ".join(value.decode("latin-1") for _, value in echoed)
            headers = {"www-authenticate": f'Bearer error="invalid_token", error_description="{said}"'}
            await PlainTextResponse(said, 401, headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@dataclass
class Canaries:
    """Secrets by the field that each was put into, and where any of them turned up."""

    secrets: dict[str, str] = field(default_factory=dict[str, str])
    found: list[str] = field(default_factory=list[str])

    def put(self, where: str) -> str:
        """A new secret."""
        self.secrets[where] = f"canary{os.urandom(12).hex()}"
        return self.secrets[where]

    def look(self, where: str, text: str | bytes) -> None:
        """Search what some face answered."""
        content = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        self.found += [f"{name} in {where}" for name, secret in self.secrets.items() if secret in content]


@pytest.fixture
def loud() -> Generator[Loud]:
    """The hostile server, running."""
    tools = MCPServer("loud")

    @tools.tool()
    def whisper() -> str:  # pyright: ignore[reportUnusedFunction]
        """Say nothing."""
        return ""

    listener = free_socket()
    behind = Loud(f"http://127.0.0.1:{listener.getsockname()[1]}", app=tools.streamable_http_app())
    server = uvicorn.Server(uvicorn.Config(behind, log_level="error", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield behind
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.mark.slow
def test_no_secret_comes_out_of_any_face(tmp_path: Path, loud: Loud) -> None:
    canaries = Canaries()
    with installed(tmp_path / "home", "--bare", "--workers", "1", env={"UV_DEFAULT_INDEX": NOWHERE}) as hub:
        administrator = hub.token("administrator", "admin", "call", "models")
        with (
            httpx.Client(base_url=hub.url, timeout=60, headers={"authorization": f"Bearer {administrator}"}) as api,
            httpx.Client(base_url=hub.url, timeout=60, follow_redirects=True) as browser,
        ):
            configure(canaries, hub, api, loud)
            loud.is_rude = True
            canaries.look("refresh", api.post(f"{PREFIX}/servers/loud/refresh").content)
            canaries.look("probe", api.post(f"{PREFIX}/models/loud-model/probe").content)
            use(canaries, api, hub)
            sign_in(canaries, hub, browser)
            canaries.secrets["administrator's key"] = administrator.split("_")[2]
            assert len(canaries.secrets) == 15
            for path in admin_paths():
                canaries.look(path, checked(api.get(path)).content)
            for path in pages(tmp_path):
                canaries.look(path, checked(browser.get(path)).content)
            canaries.look("/metrics", checked(api.get("/metrics")).content)
        for command in COMMANDS:
            done = hub.run(*command, "--json")
            canaries.look(f"entrepot {' '.join(command)}", done.stdout + done.stderr)
        kept = {path: path.read_bytes() for path in hub.home.rglob("*") if path.is_file()}
    assert any(path.parent.name == "audit" for path in kept) and any(path.parent.name == "logs" for path in kept)
    in_database = Canaries(canaries.secrets | {OPEN_IN_DATABASE: "not looked for"})
    for path, content in kept.items():
        if path.name == LET_OUT:
            assert path.stat().st_mode & 0o077 == 0
        else:
            (in_database if path.name.startswith(DATABASE) else canaries).look(str(path.relative_to(hub.home)), content)
    assert canaries.found + in_database.found == []


def configure(canaries: Canaries, hub: Installation, api: httpx.Client, loud: Loud) -> None:
    """Put a secret into every field that takes one, by each way in; refusals are looked at too."""
    put = canaries.put
    asked: list[tuple[str, str, Any]] = [
        (
            "POST",
            "/servers",
            {"name": "child", "command": CALCULATOR, "sandbox": "trusted", "env": {"SECRET": put("env of a command")}},
        ),
        (
            "POST",
            "/servers",
            {
                "name": "loud",
                "url": f"{loud.url}/mcp?key={put('query of a URL')}",
                "headers": header(put("header of a server")),
            },
        ),
        ("POST", "/servers", {"name": "gone", "url": f"{NOWHERE}/mcp", "headers": header(put("header of an absent"))}),
        ("POST", "/servers", {"name": "pack", "package": "pypi:canary==1.0", "env": {"KEY": put("env of a package")}}),
        ("POST", "/servers", {"name": "mixed", "url": NOWHERE, "env": {"KEY": put("env in a refused declaration")}}),
        ("POST", "/servers", {"name": "odd", "url": NOWHERE, "headers": {"X-Key": [put("header of a wrong type")]}}),
        ("PUT", "/models/loud-model", {"kind": "chat", "url": f"{loud.url}/v1", "api_key": put("key of a model")}),
        ("PUT", "/models/odd", {"kind": "chat", "url": NOWHERE, "api_key": [put("model key of a wrong type")]}),
        (
            "POST",
            "/apply",
            {
                "servers": [
                    {"name": "child", "command": CALCULATOR, "sandbox": "trusted", "env": {"A": put("env applied")}}
                ]
            },
        ),
        ("POST", "/import", {"mcpServers": {"taken": {"url": NOWHERE, "headers": header(put("header imported"))}}}),
    ]
    statuses: dict[str, int] = {}
    for method, path, body in asked:
        answer = api.request(method, PREFIX + path, json=body)
        statuses[str(body.get("name", path))] = answer.status_code
        canaries.look(f"the answer to {method} {path}", answer.content)
    stored = (statuses["child"], statuses["loud"], statuses["/models/loud-model"], statuses["/apply"])
    assert stored == (201, 201, 200, 200), statuses
    answer = api.post(f"{PREFIX}/apply", content=f"servers: [{{name: x, url: '{put('text of a broken file')}".encode(),
                      headers={"content-type": "application/yaml"})  # fmt: skip
    canaries.look("the answer to a broken file", answer.content)


def use(canaries: Canaries, api: httpx.Client, hub: Installation) -> None:
    """A key is used, misused and put where it does not belong; the hostile model is asked."""
    made = hub.json("tokens", "create", "canary")
    canaries.secrets["secret of a key"] = made["token"].split("_")[2]
    for token in (made["token"], made["token"] + "x", f" {made['token']} extra"):
        for path in ("/mcp", "/mcp/s/child", "/mcp/s/none", f"/mcp/s/{token.strip()}", f"{PREFIX}/servers/{token}"):
            answer = httpx.post(hub.url + path, json={}, headers={"authorization": f"Bearer {token}"}, trust_env=False)
            if made["token"] not in path:
                # A caller may be told its own words; that they stay nowhere else is looked at in the end.
                canaries.look(f"the answer of {path}", answer.content + str(answer.headers).encode())
    body = {"model": "loud-model", "messages": [{"role": "user", "content": "hello"}]}
    canaries.look("the answer of a model", api.post("/v1/chat/completions", json=body).content)


def sign_in(canaries: Canaries, hub: Installation, browser: httpx.Client) -> None:
    """As a person with a browser; what signs in is a secret as well."""
    link = hub.json("sign-in")["url"]
    token = link.partition("token=")[2]
    checked(browser.get(link))
    checked(browser.post("/sign-in", data={"token": token}))
    assert browser.cookies, "the link did not sign in"
    for cookie in browser.cookies.jar:
        canaries.secrets[f"cookie {cookie.name}"] = str(cookie.value)


def admin_paths() -> list[str]:
    """Every GET of the admin API, of this part of it and the agents'."""
    paths = [PREFIX + one.path for one in ENDPOINTS if one.method == "GET"]
    paths += [f"{PREFIX}/agents", f"{PREFIX}/runs", f"{PREFIX}/servers/loud", f"{PREFIX}/servers/loud/definitions"]
    return [filled(path) + ("?limit=500" if path.endswith(("/audit", "/logs")) else "") for path in paths]


def pages(home: Path) -> list[str]:
    """Every page that a signed-in person can open."""
    audit = Audit(home / "unused", "none")
    screens = Screens(Settings(home=home), InProcess(Starlette()), Sessions(Database("sqlite://"), NOWHERE), audit)
    paths = [route.path for route in routes_of(screens) if isinstance(route, Route) and "GET" in (route.methods or ())]
    absent = ("/static", "/agents/{", "/runs/{", "/sign-in")
    return sorted({filled(path) for path in paths if not path.startswith(absent)} | {"/servers/loud"})


def filled(path: str) -> str:
    """The path with names of what was configured."""
    if path.startswith(("/models", f"{PREFIX}/models")):
        return path.replace("{name}", "loud-model")
    return path.replace("{name}", "child") + ("?tool=add" if path.endswith("/try") else "")


def header(secret: str) -> Mapping[str, str]:
    """How a server is told who calls."""
    return {"Authorization": f"Bearer {secret}", "X-Api-Key": secret}


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, which must be one that shows something."""
    assert answer.status_code == 200, f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
    return answer
