"""The overview: each section on its own, so that one broken part leaves the others readable."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from registry.contexts import Broken, Home
from registry.hubface import Fault, read
from registry.screens import Page, Visit, broken
from registry.shapes import Agent, Model, Record, Run, Server
from registry.views.servers import WORST_FIRST

CHORES = ("server:refresh", "link:create", "key:create", "key:revoke")
"""What the hub does of its own accord, or for every run; the audit has them, the overview has what people did."""

T = TypeVar("T")


async def overview(visit: Visit) -> Page:
    """GET /."""
    faults: dict[str, Broken] = {}

    async def section(name: str, shape: type[T], path: str, limit: int | None = None) -> T | None:
        try:
            return read(shape, await visit.hub.get(path, limit=limit), name)
        except Fault as fault:
            faults[name] = broken(fault).context
            return None

    servers = await section("servers", tuple[Server, ...], "/servers")
    agents = await section("agents", tuple[Agent, ...], "/agents")
    models = await section("models", tuple[Model, ...], "/models")
    runs = await section("runs", tuple[Run, ...], "/runs", 5)
    records = await section("records", tuple[Record, ...], "/audit", 40)
    if records is not None:
        records = tuple(record for record in records if record.event not in CHORES)[:8]
    servers = servers and tuple(sorted(servers, key=lambda each: (WORST_FIRST.get(each.state, 2), each.name)))
    states = dict(Counter(server.state for server in servers or ()))
    tools = sum(server.counts.tool for server in servers or ())
    return Page("pages/home.html", Home(servers, agents, models, records, runs, states, tools, faults), "home.title")
