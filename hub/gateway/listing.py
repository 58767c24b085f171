"""What a caller sees: capabilities and lists, joined from the snapshot's fragments and kept per set of scopes.

Answers come from the snapshot with every server down. A page is built once per (endpoint, era, kind, scopes) and
revision, then sent as bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hub import __version__
from hub.audit.refusals import Refusals
from hub.catalog.snapshot import KINDS, Era, Kind, Mode, Server, Snapshot, Target, View
from hub.errors import InvalidParams, NotFound
from hub.gateway.modes import HOW_TO, Modes
from hub.gateway.own import OwnTools
from hub.gateway.own_tasks import TASKS
from hub.identity.principal import Principal
from hub.policy.admission import Admission
from hub.upstream import jsonrpc
from hub.upstream.modern_http import META
from hub.upstream.modern_http import VERSION as MODERN_VERSION

PAGE = 1000
"""Entries a page: enough that clients which never ask for a second page see all of a large catalog."""

TTL_MILLISECONDS = 5000
"""How long a client may keep a list unasked; with `subscriptions/listen` it hears of changes at once."""

MOST_PAGES_KEPT = 512

LONGEST_INSTRUCTIONS = 8000
"""Characters of all servers' instructions together: they land in a model's context."""

LISTS: Mapping[str, tuple[Kind, str]] = {
    "tools/list": ("tool", "tools"),
    "prompts/list": ("prompt", "prompts"),
    "resources/list": ("resource", "resources"),
    "resources/templates/list": ("template", "resourceTemplates"),
}
HUB_INFO = {"name": "entrepot", "title": "Entrepot", "version": __version__}


WHAT_THERE_IS = "`entrepot servers list` shows what there is."


class WithheldView(NotFound):
    """An endpoint that this caller may not know of: on the wire as one that is not there; in the audit, a denial."""

    outcome = "denied"


class Listing:
    """Lists and capabilities for one worker."""

    def __init__(self, admission: Admission, refusals: Refusals, own: OwnTools) -> None:
        self._refusals = refusals
        self._own = own
        self._modes = Modes(own.names)
        self._admission = admission
        self._kept: dict[tuple[object, ...], bytes] = {}
        self._of: Snapshot | None = None

    def view(self, snapshot: Snapshot, key: str, principal: Principal, asked: Mode | None = None) -> View:
        """The endpoint's content, shown as asked or else as declared.

        Raises `NotFound` alike for one that is not there and one that is not allowed.
        """
        view = snapshot.views.get(key)
        if view is None:
            raise NotFound(no_endpoint(key), hint=WHAT_THERE_IS)
        if key and not self.servers(snapshot, view, principal):
            error = WithheldView(no_endpoint(key), hint=WHAT_THERE_IS)
            self._refusals.record(error, principal, target=f"/mcp/{key}")
            raise error
        mode = asked or view.mode
        return view if mode == "all" == view.mode else self._modes.shown(snapshot, view, mode)

    def servers(self, snapshot: Snapshot, view: View, principal: Principal) -> list[Server]:
        """The servers of an endpoint of which this principal may use anything."""
        seen = {
            target.server for targets in view.listed.values() for target in self._admission.visible(principal, targets)
        }
        return [
            snapshot.servers[name]
            for name in view.servers
            if name in seen or self._admission.decide(principal, "tool:call", name).allow
        ]

    def page(
        self, snapshot: Snapshot, view: View, era: Era, method: str, principal: Principal, cursor: object
    ) -> bytes:
        """One page of a list as a result object. Raises `InvalidParams` for a cursor that is not ours."""
        if snapshot is not self._of:
            self._kept, self._of = {}, snapshot
        start = 0 if cursor is None else _offset(cursor, snapshot.revision)
        key = (view.key, view.mode, era, method, principal.scopes, start)
        page = self._kept.get(key)
        if page is None:
            if len(self._kept) >= MOST_PAGES_KEPT:
                self._kept.clear()
            page = self._kept[key] = self._page(snapshot, view, era, method, principal, start)
        return page

    def _page(self, snapshot: Snapshot, view: View, era: Era, method: str, principal: Principal, start: int) -> bytes:
        kind, member = LISTS[method]
        targets: Sequence[Target] = self._admission.visible(principal, view.listed.get((era, kind), ()))
        shown = [one.fragment for one in targets[start : start + PAGE]]
        if view.mode != "all" and kind == "tool" and start == 0 and self._admission.calls(principal):
            shown = [*self._own.fragments(view.mode, era), *shown]
        parts = [b'"%b":[' % member.encode(), b",".join(shown), b"]"]
        if start + PAGE < len(targets):
            parts.append(b',"nextCursor":"%b"' % _cursor(start + PAGE, snapshot.revision))
        if era == "modern":
            info = orjson.dumps({META + "serverInfo": self._info(snapshot, view)})
            parts.append(
                b',"resultType":"complete","ttlMs":%d,"cacheScope":"private","_meta":%b' % (TTL_MILLISECONDS, info)
            )
        return b"{" + b"".join(parts) + b"}"

    def discover(self, snapshot: Snapshot, view: View, principal: Principal) -> bytes:
        """The result of `server/discover`."""
        told: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": [MODERN_VERSION],
            "capabilities": self.capabilities(snapshot, view, "modern", principal),
            "ttlMs": TTL_MILLISECONDS,
            "cacheScope": "private",
            "_meta": {META + "serverInfo": self._info(snapshot, view)},
        }
        instructions = self.instructions(snapshot, view, "modern", principal)
        return orjson.dumps(told | ({"instructions": instructions} if instructions else {}))

    def initialize(self, snapshot: Snapshot, view: View, version: str, principal: Principal) -> bytes:
        """The result of `initialize`."""
        told: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": self.capabilities(snapshot, view, "legacy", principal),
            "serverInfo": self._info(snapshot, view, "legacy"),
        }
        instructions = self.instructions(snapshot, view, "legacy", principal)
        return orjson.dumps(told | ({"instructions": instructions} if instructions else {}))

    def capabilities(self, snapshot: Snapshot, view: View, era: Era, principal: Principal) -> dict[str, Any]:
        """All that any usable server of the endpoint is capable of towards this era."""
        merged: dict[str, Any] = {}
        for server in self.servers(snapshot, snapshot.views[view.key], principal):
            facts = server.facts(era)
            _merge(merged, facts if era in server.eras else _across(facts))
        if not view.key.startswith("s/"):
            # The hub's own promise: lists change when servers come and go.
            for kind in KINDS:
                if view.listed.get((era, kind)) or kind == "tool":
                    name = "resources" if kind == "template" else kind + "s"
                    merged.setdefault(name, {})["listChanged"] = True
        if view.mode != "all":
            merged.setdefault("tools", {})
        if era == "legacy":
            merged.pop("tasks", None)
            merged.pop("extensions", None)
        else:
            # The hub makes tasks of calls that take long, whatever their servers know of them.
            merged["extensions"] = jsonrpc.mapping(merged.get("extensions")) | {TASKS: {}}
        return merged

    def instructions(self, snapshot: Snapshot, view: View, era: Era, principal: Principal) -> str:
        """The server's own words; on shared endpoints each server's under its name, cut to a bound."""
        servers = self.servers(snapshot, snapshot.views[view.key], principal)
        told = [(one.name, one.instructions.get(one.era_for(era), "")) for one in servers]
        if view.key.startswith("s/"):
            words = told[0][1] if told else ""
        else:
            words = "\n\n".join(f"{name}: {text}" for name, text in told if text)[:LONGEST_INSTRUCTIONS]
        return "\n\n".join(one for one in (HOW_TO[view.mode], words) if one)

    def _info(self, snapshot: Snapshot, view: View, era: Era = "modern") -> Mapping[str, object]:
        if not view.key.startswith("s/"):
            return HUB_INFO
        server = snapshot.servers[view.servers[0]]
        return server.info.get(server.era_for(era)) or HUB_INFO


def _across(facts: Mapping[str, object]) -> dict[str, object]:
    """A server's capabilities for clients of an era that it does not speak: the bridge carries all but extensions."""
    return {name: value for name, value in facts.items() if name not in ("tasks", "extensions")}


def _merge(merged: dict[str, Any], more: Mapping[str, object]) -> None:
    for key, value in more.items():
        known = merged.get(key)
        inner = jsonrpc.mapping(value)
        if inner or value == {}:
            into = merged[key] = dict(jsonrpc.mapping(known))
            _merge(into, inner)
        elif known is None or value is True:
            merged[key] = value


def _cursor(offset: int, revision: int) -> bytes:
    return base64.urlsafe_b64encode(b"%d.%d" % (revision, offset))


def _offset(cursor: object, revision: int) -> int:
    """Where a page starts. After a change the old offset still holds roughly, which beats an error mid-list."""
    try:
        if not isinstance(cursor, str) or len(cursor) > 100:
            raise ValueError
        told, _, offset = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).partition(b".")
        if int(told) > revision:
            raise ValueError
        return max(int(offset), 0)
    except (ValueError, binascii.Error) as error:
        raise InvalidParams("The cursor is not one that this endpoint gave") from error


def no_endpoint(key: str) -> str:
    """The same words for an endpoint that is not there and one that is withheld."""
    return f"There is no endpoint /mcp/{key}"
