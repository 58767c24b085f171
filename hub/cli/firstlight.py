"""What a new user sees after `up`: one real pass through the hub as any MCP client would make it, then how to go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from hub.cli.clients import configurations
from hub.cli.console import Console
from hub.errors import Unavailable
from hub.settings import Settings
from hub.upstream.modern_http import VERSION, envelope, header_value

PATIENCE_SECONDS = 120.0
QUESTION = "How many days of annual leave does Harbour Works give?"
CLIENT = {"name": "entrepot-first-light", "version": "1"}


async def first_light(settings: Settings, console: Console) -> None:
    """Connect, list, search, ask. Every line is what the hub answered over HTTP with a key made for this."""
    async with _client(settings) as client:
        with console.step("Bundled servers and agents"):
            await _until_offered(client, {"rag", "agents"})
        with console.step("Connect as an MCP client and list the tools") as step:
            told = await rpc(client, "server/discover", {})
            tools = (await rpc(client, "tools/list", {}))["tools"]
            step.note(f"{told['supportedVersions'][0]}, {len(tools)} tools")
        with console.step("Search the bundled documents") as step:
            found = await call(client, "search_documents", {"query": QUESTION, "limit": 3})
            step.note(_first(_objects(_object(found.get("structuredContent")).get("hits"))))
        with console.step("Ask the agent librarian"):
            answer = await call(client, "librarian", {"question": QUESTION})
    console.say()
    console.say(f"  {QUESTION}")
    for line in _spoken(answer):
        console.say(f"    {line}")
    trace = _object(answer.get("_meta")).get("dev.entrepot/trace", "")
    if trace:
        console.say(f"    trace {trace}")


async def welcome(settings: Settings, console: Console) -> None:
    """Where everything is, and what to paste into a client."""
    async with _admin(settings) as client:
        link = (await client.post("/api/v1/sign-in-links")).json()
    console.say()
    console.say(f"  Entrepot serves at   {settings.url}/mcp")
    console.say(f"  Web pages            {settings.url}")
    console.say(f"  Sign in (once, 15 minutes):  {link.get('url', '')}")
    console.say()
    if settings.open:
        console.say("  Started with --open: programs on this machine need no token.")
    else:
        console.say("  Make a key for your client:  entrepot tokens create my-laptop")
    console.say("  Then paste one of these (with the key in place of YOUR_KEY):")
    for name, where, text in configurations(settings.url, open_hub=settings.open):
        console.say()
        console.say(f"  {name} · {where}")
        for line in text.splitlines():
            console.say(f"    {line}")
    console.say()
    console.say("  Ctrl-C stops everything.")


async def call(client: httpx.AsyncClient, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One `tools/call`, its result whole. Raises `HubError` with the tool's own words when it failed."""
    result = await rpc(client, "tools/call", {"name": tool, "arguments": arguments})
    if result.get("isError"):
        raise Unavailable(" ".join(_texts(result)) or f"{tool} failed")
    return result


async def rpc(client: httpx.AsyncClient, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """One modern request over HTTP. Raises `HubError` with the hub's words on an error."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": params | {"_meta": envelope({}, CLIENT)},
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
        "mcp-method": method,
    }
    if "name" in params:
        headers["mcp-name"] = header_value(params["name"]).decode()
    answer = await client.post("/mcp", json=body, headers=headers)
    message = last_message(answer)
    if "error" in message:
        error = _object(message["error"])
        raise Unavailable(str(error.get("message")), hint=str(_object(error.get("data")).get("hint", "")))
    return message.get("result", {})


def last_message(answer: httpx.Response) -> dict[str, Any]:
    """The response out of a JSON body or an event stream."""
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        return answer.json()
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return httpx.Response(200, text=lines[-1]).json() if lines else {}


async def _until_offered(client: httpx.AsyncClient, servers: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    missing = servers
    while time.monotonic() < deadline:
        rows = (await client.get("/api/v1/servers")).json()["servers"]
        missing = servers - {row["name"] for row in rows if row["state"] in ("ready", "degraded")}
        if not missing:
            return
        await asyncio.sleep(0.2)
    raise Unavailable(f"Not ready in time: {', '.join(sorted(missing))}", hint="`entrepot doctor` says why.")


@asynccontextmanager
async def _client(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    """A client on the network's address, with a key that is revoked at the end."""
    async with _admin(settings) as admin:
        made = (
            await admin.post("/api/v1/tokens", json={"name": "first light", "scopes": ["call", "models", "admin:read"]})
        ).json()
        headers = {"authorization": f"Bearer {made['token']}"}
        try:
            # The hub's own address: a proxy of the environment must neither see the key nor be in the way.
            async with httpx.AsyncClient(
                base_url=settings.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
            ) as client:
                yield client
        finally:
            await admin.delete(f"/api/v1/tokens/{made['id']}")


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(settings.admin_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=30, trust_env=False) as client:
        try:
            yield client
        except httpx.HTTPError as error:
            raise Unavailable("The hub does not answer", hint="`entrepot status` shows what runs.") from error


def _first(hits: list[dict[str, Any]]) -> str:
    if not hits:
        return "nothing found"
    citation = _object(hits[0].get("citation"))
    return f"{len(hits)} passages, first from {citation.get('title') or citation.get('document')}"


def _texts(result: dict[str, Any]) -> list[str]:
    return [str(part.get("text", "")) for part in _objects(result.get("content")) if part.get("type") == "text"]


def _spoken(answer: dict[str, Any]) -> list[str]:
    structured = _object(answer.get("structuredContent"))
    if "answer" not in structured:
        return _texts(answer)
    cited = [
        f"[{number}] {source.get('title') or source.get('document')} {source.get('uri', '')}".rstrip()
        for number, source in enumerate(_objects(structured.get("citations")), 1)
    ]
    return [*str(structured["answer"]).splitlines(), *cited]


def _object(found: object) -> dict[str, Any]:
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _objects(found: object) -> list[dict[str, Any]]:
    return [_object(one) for one in cast("list[object]", found)] if isinstance(found, list) else []
