"""The servers: all of them with their health, and one with everything that it offers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from registry.contexts import Broken, Examined, Offer, ServerDetail, Servers
from registry.formats import pretty
from registry.hubface import Fault, read, segment
from registry.schemas import as_schema, rows
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Definition, Looked, Rollout, Server

MARKS = (("readOnlyHint", True), ("destructiveHint", True), ("idempotentHint", True), ("openWorldHint", True))
IDLE_SECONDS = 5
"""How long an examination keeps silent on a stream: a person waits for the page."""

WORST_FIRST = {"down": 0, "degraded": 1, "new": 2, "ready": 3}


async def every(visit: Visit) -> Page:
    """GET /servers: worst first, filtered by `?state=` and `?q=`."""
    servers = read(tuple[Server, ...], await visit.hub.get("/servers"), "servers")
    state, words = visit.query.get("state", ""), visit.query.get("q", "").strip()
    kept = [server for server in servers if (not state or server.state == state) and matches(server, words)]
    kept.sort(key=lambda server: (WORST_FIRST.get(server.state, 2), server.name))
    states = dict(Counter(server.state for server in servers))
    return Page("pages/servers.html", Servers(tuple(kept), states, state, words, len(servers)), "servers.title")


async def one(visit: Visit) -> Page:
    """GET /servers/{name}."""
    name = visit.path["name"]
    server = read(Server, await visit.hub.get(f"/servers/{segment(name)}"))
    fault: Broken | None = None
    offers: tuple[Offer, ...] = ()
    try:
        answer = await visit.hub.get(f"/servers/{segment(name)}/definitions")
        offers = tuple(offer_of(each) for each in newest(read(tuple[Definition, ...], answer, "definitions")))
    except Fault as error:
        fault = broken(error).context
    endpoint = f"{visit.settings.url}/mcp/s/{name}"
    rollout: Rollout | None = None
    if server.canary or server.rollout:
        rollout = read(Rollout, await visit.hub.get(f"/servers/{segment(name)}/rollout"))
    return Page("pages/server.html", ServerDetail(server, offers, fault, endpoint, rollout), "servers.one", name)


async def promote(visit: Visit) -> Moved:
    """POST /servers/{name}/promote: give the version that is tried out to everybody."""
    name = visit.path["name"]
    await visit.hub.post(f"/servers/{segment(name)}/rollout/promote")
    return Moved(f"/servers/{segment(name)}", "done.promoted", name)


async def roll_back(visit: Visit) -> Moved:
    """POST /servers/{name}/rollback: give the version that is tried out up."""
    name = visit.path["name"]
    await visit.hub.post(f"/servers/{segment(name)}/rollout/rollback")
    return Moved(f"/servers/{segment(name)}", "done.rolled_back", name)


async def refresh(visit: Visit) -> Moved:
    """POST /servers/{name}/refresh: ask the server again what it offers."""
    name = visit.path["name"]
    await visit.hub.post(f"/servers/{segment(name)}/refresh")
    return Moved(f"/servers/{segment(name)}", "done.refreshed", name)


async def examine(visit: Visit) -> Page:
    """POST /servers/{name}/examine: find what is wrong with it, by name. Takes seconds, at most about a minute."""
    name = visit.path["name"]
    rows = read(
        tuple[Looked, ...], await visit.hub.post(f"/servers/{segment(name)}/doctor", idle=IDLE_SECONDS), "checks"
    )
    found = tuple(row for row in rows if row.owner)
    return Page(
        "pages/examined.html", Examined(name, found, tuple(row for row in rows if not row.owner)), "doctor.title", name
    )


async def remove(visit: Visit) -> Moved:
    """POST /servers/{name}/remove: only with the box ticked, since names and keys depend on it."""
    name = visit.path["name"]
    if visit.form.get("sure") != "yes":
        return Moved(f"/servers/{segment(name)}", "done.not_sure")
    await visit.hub.delete(f"/servers/{segment(name)}")
    return Moved("/servers", "done.removed", name)


def matches(server: Server, words: str) -> bool:
    """Whether every word stands somewhere in what a person knows of a server."""
    text = f"{server.name} {server.title} {server.description} {server.reason}".casefold()
    return all(word in text for word in words.casefold().split())


def newest(definitions: tuple[Definition, ...]) -> list[Definition]:
    """Each definition once: a server that speaks both eras lists the same things twice; the modern one is shown."""
    found: dict[tuple[str, str], Definition] = {}
    for definition in sorted(definitions, key=lambda each: each.era != "modern"):
        found.setdefault((definition.kind, definition.name), definition)
    order = ("tool", "prompt", "resource", "template")
    return sorted(found.values(), key=lambda each: order.index(each.kind) if each.kind in order else len(order))


def offer_of(definition: Definition) -> Offer:
    """A definition, readable."""
    given = definition.definition
    title = given.get("title") or as_schema(given.get("annotations")).get("title") or ""
    arguments = rows(given.get("inputSchema")) or prompt_rows(given.get("arguments"))
    return Offer(
        definition,
        str(title),
        str(given.get("description") or ""),
        arguments,
        rows(given.get("outputSchema")),
        marks_of(given),
        pretty(given),
    )


def marks_of(given: dict[str, Any]) -> tuple[str, ...]:
    """The hints that a tool claims, as keys of the catalogue."""
    claimed = as_schema(given.get("annotations"))
    return tuple(f"mark.{name}" for name, value in MARKS if claimed.get(name) is value)


def prompt_rows(arguments: Any) -> Any:
    """A prompt's arguments in the form of a schema's table."""
    if not isinstance(arguments, list):
        return ()
    named: list[dict[str, Any]] = [as_schema(each) for each in arguments]  # pyright: ignore[reportUnknownVariableType]
    properties = {str(each.get("name")): {"type": "string", "description": each.get("description")} for each in named}
    return rows({"properties": properties, "required": [each.get("name") for each in named if each.get("required")]})
