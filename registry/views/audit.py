"""The audit: who called what with which outcome, and whether its chain is whole."""

from __future__ import annotations

from datetime import datetime

from registry.contexts import Audit
from registry.hubface import read
from registry.schemas import as_schema
from registry.screens import Page, Visit
from registry.shapes import Chain, Record

FIELDS = ("subject", "server", "target", "outcome", "after", "before")
OUTCOMES = ("ok", "tool-error", "denied", "failed")


async def search(visit: Visit) -> Page:
    """GET /audit: `?verify=yes` also checks the chain."""
    typed = {name: visit.query.get(name, "").strip() for name in FIELDS}
    errors = {name: "error.moment" for name in ("after", "before") if typed[name] and not is_moment(typed[name])}
    chain = read(Chain, await visit.hub.get("/audit/verify")) if visit.query.get("verify") == "yes" else None
    if errors:
        return Page("pages/audit.html", Audit((), typed, "", chain, errors), "audit.title", status=422)
    wanted = typed | {"cursor": visit.query.get("cursor", ""), "limit": "100"}
    answer = await visit.hub.get("/audit", **wanted)
    records = read(tuple[Record, ...], answer, "records")
    following = str(as_schema(answer).get("next") or "")
    return Page("pages/audit.html", Audit(records, typed, following, chain, {}), "audit.title")


def is_moment(text: str) -> bool:
    """Whether a text is a date or a moment of ISO 8601, as browsers and people write it."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
