"""Limits: what there is and who used most of each, made, changed and removed."""

from __future__ import annotations

from registry.contexts import Broken, Limits
from registry.hubface import Fault, read, segment
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Limit

FIELDS = ("name", "principal", "team", "server", "tool", "rate", "burst", "quota", "concurrent", "contact")
NUMBERS = ("burst", "concurrent")
START: dict[str, str] = dict.fromkeys(FIELDS, "")


async def every(visit: Visit) -> Page:
    """GET /limits."""
    return await page_of(visit, START)


async def put(visit: Visit) -> Page | Moved:
    """POST /limits: a limit of a name that there is already is replaced; what was counted stays counted."""
    typed = {name: visit.form.get(name, "").strip() for name in FIELDS}
    errors = {"name": "error.needed"} if not typed["name"] else {}
    errors |= {name: "error.choice" for name in NUMBERS if typed[name] and not typed[name].isdecimal()}
    if errors:
        return await page_of(visit, typed, errors, status=422)
    body = {name: int(text) if name in NUMBERS else text for name, text in typed.items() if text and name != "name"}
    try:
        await visit.hub.put(f"/limits/{segment(typed['name'])}", body)
    except Fault as fault:
        return await page_of(visit, typed, fault=broken(fault).context, status=fault.status)
    return Moved("/limits", "done.saved", typed["name"])


async def remove(visit: Visit) -> Moved:
    """POST /limits/{name}/remove."""
    name = visit.path["name"]
    await visit.hub.delete(f"/limits/{segment(name)}")
    return Moved("/limits", "done.removed", name)


async def page_of(
    visit: Visit,
    typed: dict[str, str],
    errors: dict[str, str] | None = None,
    fault: Broken | None = None,
    status: int = 200,
) -> Page:
    """The page in any of its states."""
    found = read(tuple[Limit, ...], await visit.hub.get("/limits"), "limits")
    return Page("pages/limits.html", Limits(found, typed, errors or {}, fault), "limits.title", status=status)
