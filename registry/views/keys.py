"""Keys: made with scopes and an end, shown once, revoked."""

from __future__ import annotations

from collections.abc import Mapping

from hub.policy.actions import scope_is_known
from registry.contexts import Broken, Keys
from registry.hubface import Fault, read, segment
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Key

DAY = 86_400
LIFETIMES: Mapping[str, int | None] = {
    "1": DAY,
    "7": 7 * DAY,
    "30": 30 * DAY,
    "90": 90 * DAY,
    "365": 365 * DAY,
    "": None,
}
"""Days that may be chosen, in seconds; none means until revoked."""
START = {"name": "", "scopes": "call models", "days": "90"}


async def every(visit: Visit) -> Page:
    """GET /keys."""
    return await page_of(visit, START)


async def create(visit: Visit) -> Page:
    """POST /keys: answers with the token itself, since it is never kept and cannot be shown after a redirect."""
    typed = {name: visit.form.get(name, "").strip() for name in START}
    made, errors, fault = await make(visit, typed)
    status = 422 if errors else fault.status if fault else 201
    told = broken(fault).context if fault else None
    return await page_of(visit, START if made else typed, errors, made, told, status)


async def revoke(visit: Visit) -> Moved:
    """POST /keys/{id}/revoke."""
    await visit.hub.delete(f"/tokens/{segment(visit.path['id'])}")
    return Moved("/keys", "done.revoked", visit.form.get("name", ""))


async def make(visit: Visit, typed: dict[str, str]) -> tuple[Key | None, dict[str, str], Fault | None]:
    """A new key, or what is wrong with each field, or why the hub refused."""
    scopes = typed["scopes"].replace(",", " ").split()
    errors: dict[str, str] = {}
    if not typed["name"] or len(typed["name"]) > 100:
        errors["name"] = "error.needed" if not typed["name"] else "error.too_long"
    if not scopes or not all(scope_is_known(scope) for scope in scopes):
        errors["scopes"] = "error.scopes"
    if typed["days"] not in LIFETIMES:
        errors["days"] = "error.choice"
    if errors:
        return None, errors, None
    wanted = {"name": typed["name"], "scopes": scopes}
    seconds = LIFETIMES[typed["days"]]
    try:
        answer = await visit.hub.post("/tokens", wanted | ({"expires_seconds": seconds} if seconds else {}))
        return read(Key, answer), {}, None
    except Fault as fault:
        return None, {name: text for name, text in fault.fields.items() if name in typed}, fault


async def keys_of(visit: Visit) -> tuple[Key, ...]:
    """All keys, living ones first, newest first."""
    found = read(tuple[Key, ...], await visit.hub.get("/tokens"), "tokens")
    newest = sorted(found, key=lambda key: key.created.timestamp() if key.created else 0, reverse=True)
    return tuple(sorted(newest, key=lambda key: key.revoked is not None))


async def page_of(
    visit: Visit,
    typed: dict[str, str],
    errors: dict[str, str] | None = None,
    made: Key | None = None,
    fault: Broken | None = None,
    status: int = 200,
) -> Page:
    """The page in any of its states. Every run makes a key, so those and revoked ones are listed on request only."""
    found = await keys_of(visit)
    listed = [key for key in found if visit.query.get("all") == "yes" or (key.kind != "run" and not key.revoked)]
    context = Keys(tuple(listed), typed, errors or {}, made, fault, len(found) - len(listed))
    return Page("pages/keys.html", context, "keys.title", status=status)
