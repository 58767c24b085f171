"""Try a tool: a form from its schema, the call through the hub's own endpoint, the outcome in full."""

from __future__ import annotations

import base64
import binascii
from typing import Any, cast

from registry.contexts import Content, Outcome, TryTool
from registry.formats import pretty
from registry.hubface import Fault, Reply, read, segment
from registry.schemas import Field, as_schema, fields, fill, rows
from registry.screens import Page, Visit, broken
from registry.shapes import Definition
from registry.views.servers import newest

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif")
SOUNDS = ("audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3", "audio/ogg", "audio/webm", "audio/flac", "audio/mp4")
"""Types that a browser shows without running anything in them; SVG is a document with scripts, so it is not here."""
LONGEST_MEDIA = 12 * 2**20
MOST_ITEMS = 100


async def form(visit: Visit) -> Page:
    """GET /servers/{name}/try?tool=NAME."""
    definition = await definition_of(visit, visit.query.get("tool", ""))
    return page_of(visit, definition, fields(definition.definition.get("inputSchema")))


async def call(visit: Visit) -> Page:
    """POST /servers/{name}/try: calls the tool as the signed-in person, through admission like anybody."""
    definition = await definition_of(visit, visit.form.get("tool", ""))
    filled = fill(definition.definition.get("inputSchema"), visit.form)
    if not filled.ok:
        return page_of(visit, definition, filled.fields, status=422)
    params = {"name": definition.name, "arguments": filled.arguments}
    try:
        reply = await visit.hub.mcp(f"/mcp/s/{segment(visit.path['name'])}", "tools/call", params)
    except Fault as fault:
        return page_of(visit, definition, filled.fields, fault=fault)
    return page_of(visit, definition, filled.fields, outcome_of(reply))


async def definition_of(visit: Visit, tool: str) -> Definition:
    """The definition of a tool of this server. Raises Fault when there is none."""
    answer = await visit.hub.get(f"/servers/{segment(visit.path['name'])}/definitions")
    for definition in newest(read(tuple[Definition, ...], answer, "definitions")):
        if definition.kind == "tool" and definition.name == tool:
            return definition
    raise Fault(404, "not-found", f"This server offers no tool {tool!r}.", owner="client")


def page_of(
    visit: Visit,
    definition: Definition,
    form_fields: tuple[Field, ...],
    outcome: Outcome | None = None,
    fault: Fault | None = None,
    status: int = 200,
) -> Page:
    """The page in any of its states."""
    given = definition.definition
    context = TryTool(
        visit.path["name"],
        definition.name,
        str(given.get("title") or ""),
        str(given.get("description") or ""),
        rows(given.get("inputSchema")),
        form_fields,
        outcome,
        broken(fault).context if fault else None,
    )
    return Page("pages/try.html", context, "try.title", definition.name, status=status)


def outcome_of(reply: Reply) -> Outcome:
    """A reply to `tools/call`, readable."""
    if reply.error is not None:
        message = str(reply.error.get("message") or "")
        return Outcome("error", (), "", message, reply.milliseconds, reply.trace, pretty(reply.error))
    result = reply.result or {}
    kind = {"input_required": "input", "task": "task"}.get(str(result.get("resultType")), "ok")
    if result.get("isError") is True:
        kind = "tool-error"
    items = result.get("content")
    listed = cast("list[Any]", items)[:MOST_ITEMS] if isinstance(items, list) else []
    contents = tuple(content_of(as_schema(item)) for item in listed)
    structured = pretty(result["structuredContent"]) if "structuredContent" in result else ""
    return Outcome(kind, contents, structured, "", reply.milliseconds, reply.trace, pretty(without_media(result)))


def content_of(item: dict[str, Any]) -> Content:
    """One item of content; what cannot be shown safely is described instead."""
    kind, mime = str(item.get("type") or ""), str(item.get("mimeType") or "")
    if kind == "text":
        return Content("text", text=str(item.get("text") or ""))
    if kind in ("image", "audio"):
        source = data_uri(mime, item.get("data"), PICTURES if kind == "image" else SOUNDS)
        return Content(kind if source else "unshown", source=source, mime=mime)
    if kind == "resource_link":
        return Content(
            "link", text=str(item.get("title") or item.get("name") or ""), uri=str(item.get("uri") or ""), mime=mime
        )
    inner = as_schema(item.get("resource"))
    if kind == "resource" and isinstance(inner.get("text"), str):
        return Content(
            "resource", text=inner["text"], uri=str(inner.get("uri") or ""), mime=str(inner.get("mimeType") or "")
        )
    return Content("unshown", mime=mime or kind, uri=str(inner.get("uri") or ""))


def data_uri(mime: str, data: Any, allowed: tuple[str, ...]) -> str:
    """Base64 of an allowed type as a `data:` URI; empty when it is not that."""
    if mime not in allowed or not isinstance(data, str) or len(data) > LONGEST_MEDIA:
        return ""
    try:
        clean = base64.b64encode(base64.b64decode(data, validate=True)).decode()
    except (binascii.Error, ValueError):
        return ""
    return f"data:{mime};base64,{clean}"


def without_media(result: dict[str, Any]) -> dict[str, Any]:
    """A result with long base64 shortened, for reading."""
    items = result.get("content")
    if not isinstance(items, list):
        return result
    short = [
        {**as_schema(item), "data": as_schema(item)["data"][:60] + "…"}
        if isinstance(as_schema(item).get("data"), str)
        else item
        for item in cast("list[Any]", items)
    ]
    return result | {"content": short}
