"""Add a server: say where it is, see what would be exposed, confirm. Nothing is stored before the second step."""

from __future__ import annotations

from dataclasses import replace

from registry.contexts import AddServer
from registry.forms import FIELDS, KINDS, wanted
from registry.hubface import Fault, read, segment
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Change, Server


async def form(visit: Visit) -> Page:
    """GET /servers/new?kind=url|command|package|paste."""
    kind = kind_of(visit.query.get("kind", ""))
    return page_of(AddServer(kind, dict.fromkeys(FIELDS, ""), {}))


async def add(visit: Visit) -> Page | Moved:
    """POST /servers/new: `step=preview` shows, `step=confirm` stores, anything else goes back to the fields."""
    kind = kind_of(visit.form.get("kind", ""))
    asked = wanted(kind, visit.form)
    context = AddServer(kind, asked.typed, asked.errors)
    if asked.errors:
        return page_of(context, 422)
    step = visit.form.get("step", "")
    try:
        if kind == "paste":
            return await pasted(visit, context, asked.body, step)
        if step == "confirm":
            stored = read(Server, await visit.hub.post("/servers", asked.body))
            return Moved(f"/servers/{segment(stored.name)}", "done.added", stored.name)
        if step == "preview":
            probed = read(Server, await visit.hub.post("/servers", asked.body, dry_run="true"))
            return page_of(replace(context, preview=probed, exposed=probed.exposed))
    except Fault as fault:
        beside = {name: text for name, text in fault.fields.items() if name in asked.typed}
        return page_of(replace(context, errors=beside, fault=broken(fault).context), fault.status)
    return page_of(context)


async def pasted(visit: Visit, context: AddServer, body: dict[str, object], step: str) -> Page | Moved:
    """Several servers at once, from a client's configuration. Raises Fault."""
    if step == "confirm":
        await visit.hub.post("/import", body)
        return Moved("/servers", "done.imported")
    if step == "preview":
        answer = await visit.hub.post("/import", body, dry_run="true")
        return page_of(replace(context, changes=read(tuple[Change, ...], answer, "changes")))
    return page_of(context)


def kind_of(text: str) -> str:
    """One of the kinds, the first by default."""
    return text if text in KINDS else KINDS[0]


def page_of(context: AddServer, status: int = 200) -> Page:
    """The page in any of its states."""
    return Page("pages/add.html", context, "add.title", status=status)
