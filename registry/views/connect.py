"""Connect a client: configurations to paste, for the endpoint and the key that are wanted."""

from __future__ import annotations

import re
from typing import Any

import orjson

from hub.catalog.snapshot import MODES
from registry.contexts import Broken, Client, Connect
from registry.hubface import Fault, read, segment
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Collection, Key, Server
from registry.views.keys import make

PLACE = "YOUR_KEY"
"""What stands where the key belongs until one is made."""
ENDPOINT = re.compile(r"|[cs]/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


async def clients(visit: Visit) -> Page:
    """GET /connect: `?endpoint=s/NAME` or `c/NAME` narrows it, `&mode=` says how tools are shown."""
    return await page_of(visit, visit.query.get("endpoint", ""))


async def set_mode(visit: Visit) -> Moved:
    """POST /connect/mode: how a collection shows its tools to clients that do not ask for another way."""
    name, mode = visit.form.get("collection", ""), visit.form.get("mode", "")
    pinned = visit.form.get("pinned", "").replace(",", " ").split()
    for row in (await visit.hub.get("/collections"))["collections"]:
        if row["name"] == name and mode in MODES:
            kept = {key: row[key] for key in ("title", "description", "members")}
            await visit.hub.put(f"/collections/{segment(name)}", kept | {"mode": mode, "pinned": pinned})
            return Moved(f"/connect?endpoint=c/{segment(name)}", "done.mode", name)
    return Moved("/connect", "done.mode_not", name)


async def make_key(visit: Visit) -> Page:
    """POST /connect: makes a key that may call and use models, and puts it into the configurations."""
    typed = {"name": visit.form.get("name", "").strip(), "scopes": "call models", "days": "90"}
    made, errors, fault = await make(visit, typed)
    told = broken(fault).context if fault else None
    return await page_of(visit, visit.form.get("endpoint", ""), made, errors, told, 201 if made else 422)


async def page_of(
    visit: Visit,
    endpoint: str,
    made: Key | None = None,
    errors: dict[str, str] | None = None,
    fault: Broken | None = None,
    status: int = 200,
) -> Page:
    """The page; endpoints that may not be listed are simply not offered."""
    chosen = endpoint if ENDPOINT.fullmatch(endpoint) else ""
    try:
        servers = read(tuple[Server, ...], await visit.hub.get("/servers"), "servers")
        collections = read(tuple[Collection, ...], await visit.hub.get("/collections"), "collections")
    except Fault:
        servers, collections = (), ()
    offered = ("", *(f"c/{each.name}" for each in collections), *(f"s/{each.name}" for each in servers))
    mode = visit.query.get("mode", "")
    mode = mode if mode in MODES else ""
    url = f"{visit.settings.url}/mcp" + (f"/{chosen}" if chosen else "") + (f"?mode={mode}" if mode else "")
    collection = next((each for each in collections if f"c/{each.name}" == chosen), None)
    token = made.token if made else PLACE
    context = Connect(
        url, chosen, offered, configurations(url, token), collections, made, errors, fault, mode, collection
    )
    return Page("pages/connect.html", context, "connect.title", status=status)


def configurations(url: str, token: str) -> tuple[Client, ...]:
    """What to paste into each client. Each file is as the client's own documentation has it."""
    bearer = f"Bearer {token}"
    remote = ["-y", "mcp-remote", url, "--header", "Authorization:${AUTHORIZATION}"]
    if url.startswith("http://"):
        remote.append("--allow-http")
    desktop = {"command": "npx", "args": remote, "env": {"AUTHORIZATION": bearer}}
    plain = {"url": url, "headers": {"Authorization": bearer}}
    return (
        Client("VS Code", "vscode", ".vscode/mcp.json", written({"servers": {"entrepot": {"type": "http"} | plain}})),
        Client(
            "Claude Desktop", "desktop", "claude_desktop_config.json", written({"mcpServers": {"entrepot": desktop}})
        ),
        Client("Cursor", "cursor", "~/.cursor/mcp.json", written({"mcpServers": {"entrepot": plain}})),
        Client(
            "Claude Code",
            "code",
            "",
            f'claude mcp add --transport http entrepot {url} --header "Authorization: {bearer}"',
        ),
    )


def written(value: Any) -> str:
    """JSON as a person would write it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
