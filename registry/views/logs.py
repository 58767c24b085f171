"""The logs: recent lines of the hub and its children, filtered."""

from __future__ import annotations

from dataclasses import replace

import orjson

from registry.contexts import Logs
from registry.hubface import read
from registry.schemas import as_json, as_schema
from registry.screens import Page, Visit
from registry.shapes import Line


async def search(visit: Visit) -> Page:
    """GET /logs."""
    typed = {name: visit.query.get(name, "").strip() for name in ("source", "query")}
    answer = await visit.hub.get("/logs", **typed, limit=200)
    lines = read(tuple[Line, ...], answer, "lines")[::-1]  # the API tells the newest last
    return Page("pages/logs.html", Logs(tuple(unfolded(line) for line in lines), typed), "logs.title")


def unfolded(line: Line) -> Line:
    """A line that is a JSON record of its program, as its level, its words and the rest as `key=value`."""
    if not line.message.startswith("{"):
        return line
    try:
        record = as_schema(orjson.loads(line.message))
    except orjson.JSONDecodeError:
        return line
    if not isinstance(record.get("message"), str):
        return line
    rest = [f"{name}={as_json(value)}" for name, value in record.items() if name not in ("at", "level", "message")]
    told = " ".join([record["message"], *rest])
    return replace(line, level=str(record.get("level") or line.level), message=told)
