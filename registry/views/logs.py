"""The logs: recent lines of the hub and its children, filtered."""

from __future__ import annotations

from registry.contexts import Logs
from registry.hubface import read
from registry.screens import Page, Visit
from registry.shapes import Line


async def search(visit: Visit) -> Page:
    """GET /logs."""
    typed = {name: visit.query.get(name, "").strip() for name in ("source", "query")}
    answer = await visit.hub.get("/logs", **typed, limit=200)
    lines = read(tuple[Line, ...], answer, "lines")[::-1]  # the API tells the newest last
    return Page("pages/logs.html", Logs(lines, typed), "logs.title")
