"""What a caller sees: capabilities and lists, joined from the snapshot's fragments and kept per set of scopes.

Answers come from the snapshot with every server down. A page is built once per (endpoint, era, kind, scopes) and
revision, then sent as bytes; a list without any tool says why.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from hub import __version__
from hub.audit.refusals import Refusals
from hub.catalog.profiles import ANY, PROFILES, Profile
from hub.catalog.snapshot import KINDS, Era, Kind, Mode, Server, Snapshot, View
from hub.errors import InvalidParams, NotFound
from hub.gateway.dialects import fitted
from hub.gateway.fitting import SOMEBODY, Client, Fits, cut
from hub.gateway.modes import HOW_TO, Modes
from hub.gateway.own import OwnTools
from hub.gateway.own_tasks import TASKS
from hub.identity.principal import Principal
from hub.policy.admission import Admission
from hub.policy.visible import Selection, Visible
from hub.telemetry.metrics import Metrics
from hub.upstream import jsonrpc
from hub.upstream.modern_http import META
from hub.upstream.modern_http import VERSION as MODERN_VERSION

PAGE = 1000
"""Entries a page: enough that clients which never ask for a second page see all of a large catalog."""

TTL_MILLISECONDS = 5000
"""How long a client may keep a list unasked; with `subscriptions/listen` it hears of changes at once."""

MOST_BYTES_KEPT = 32 * 2**20
"""Of pages, kept for who asks again; putting one together takes a fraction of a millisecond."""

MOST_GREETINGS_KEPT = 512

LONGEST_INSTRUCTIONS = 8000
"""Characters of all servers' instructions together: they land in a model's context."""

LONGEST_REASON = 300

LISTS: Mapping[str, tuple[Kind, str]] = {
    "tools/list": ("tool", "tools"),
    "prompts/list": ("prompt", "prompts"),
    "resources/list": ("resource", "resources"),
    "resources/templates/list": ("template", "resourceTemplates"),
}
HUB_INFO = {"name": "entrepot", "title": "Entrepot", "version": __version__}


WHAT_THERE_IS = "`entrepot servers list` shows what there is."


REASON = "dev.entrepot/reason"
"""In the `_meta` of a list without a single tool: why that is so, for whoever would look for the fault elsewhere."""


@dataclass(frozen=True, slots=True)
class _Page:
    body: bytes
    empty: str
    """Why there is no tool at all, as the metric says it."""


class WithheldView(NotFound):
    """An endpoint that this caller may not know of: on the wire as one that is not there; in the audit, a denial."""

    outcome = "denied"


class Listing:
    """Lists and capabilities for one worker."""

    def __init__(self, admission: Admission, refusals: Refusals, own: OwnTools, metrics: Metrics) -> None:
        self._refusals = refusals
        self._own = own
        self._modes = Modes(own.names)
        self._fits = Fits()
        self._admission = admission
        self._metrics = metrics
        self._visible = Visible(admission)
        self._pages: dict[tuple[object, ...], _Page] = {}
        self._bytes = 0
        self._words: dict[tuple[object, ...], bytes] = {}
        self._of: Snapshot | None = None

    def view(
        self,
        snapshot: Snapshot,
        key: str,
        principal: Principal,
        asked: Mode | None = None,
        client: Client = SOMEBODY,
    ) -> View:
        """The endpoint's content, shown as asked or else as declared, and as the client can take it.

        Raises `NotFound` alike for one that is not there and one that is not allowed.
        """
        view = snapshot.views.get(key)
        if view is None:
            raise NotFound(no_endpoint(key), hint=WHAT_THERE_IS)
        if key and not self.servers(snapshot, view, principal):
            error = WithheldView(no_endpoint(key), hint=WHAT_THERE_IS)
            self._refusals.record(error, principal, target=f"/mcp/{key}")
            raise error
        profile = client.profile(view)
        mode = asked or view.mode
        if mode == "all" and asked is None and self._overfull(snapshot, view, principal, profile):
            # More tools than the client takes: it is given a way to find them rather than some of them.
            mode = "search"
        shown = view if mode == "all" == view.mode else self._modes.shown(snapshot, view, mode)
        return shown if profile is ANY else self._fits.shown(snapshot, shown, profile)

    def _overfull(self, snapshot: Snapshot, view: View, principal: Principal, profile: Profile) -> bool:
        """Whether a client is to be shown more tools than it takes."""
        return bool(profile.most_tools) and self._count(snapshot, view, principal) > profile.most_tools

    def _count(self, snapshot: Snapshot, view: View, principal: Principal) -> int:
        """The tools of an endpoint that this principal may call."""
        return len(self._visible.targets(snapshot, snapshot.views[view.key], "modern", "tool", principal))

    def servers(self, snapshot: Snapshot, view: View, principal: Principal) -> list[Server]:
        """The servers of an endpoint of which this principal may use anything."""
        return list(self._visible.servers(snapshot, view, principal))

    def page(
        self, snapshot: Snapshot, view: View, era: Era, method: str, principal: Principal, cursor: object
    ) -> bytes:
        """One page of a list as a result object. Raises `InvalidParams` for a cursor that is not ours."""
        if snapshot.origin is not self._of:
            self._forget(snapshot)
        start = 0 if cursor is None else _offset(cursor)
        key = (
            view.key,
            snapshot.variant,
            view.mode,
            view.profile,
            era,
            method,
            self._admission.rules(principal).calls,
            start,
        )
        # Taken out and put back, so that the first is the one that was not asked for the longest.
        page = self._pages.pop(key, None)
        if page is None:
            page = self._page(snapshot, view, era, method, principal, start)
            self._bytes += len(page.body)
            while self._bytes > MOST_BYTES_KEPT and self._pages:
                self._bytes -= len(self._pages.pop(next(iter(self._pages))).body)
        self._pages[key] = page
        if page.empty:
            self._metrics.empty(page.empty)
        if view.profile and method == "tools/list" and not start:
            profile = PROFILES[view.profile]
            if self._overfull(snapshot, view, principal, profile):
                self._metrics.fitted.labels(profile.name, "cut" if view.mode == "all" else "search").inc()
        return page.body

    def _page(self, snapshot: Snapshot, view: View, era: Era, method: str, principal: Principal, start: int) -> _Page:
        kind, member = LISTS[method]
        targets = self._visible.targets(snapshot, view, era, kind, principal)
        profile = PROFILES.get(view.profile, ANY)
        fits = kind == "tool" and profile is not ANY
        if fits and view.mode == "all" and 0 < profile.most_tools < len(targets):
            targets = Selection((cut(targets.all(), view.pinned, profile.most_tools),))
        shown = [fitted(one, profile) if fits else one.fragment for one in targets.page(start, PAGE)]
        if view.mode != "all" and kind == "tool" and start == 0 and self._admission.calls(principal):
            shown = [*self._own.fragments(view.mode, era), *shown]
        parts = [b'"%b":[' % member.encode(), b",".join(shown), b"]"]
        if start + PAGE < len(targets):
            parts.append(b',"nextCursor":"%b"' % _cursor(start + PAGE, snapshot.revision))
        meta: dict[str, object] = {META + "serverInfo": self._info(snapshot, view)} if era == "modern" else {}
        empty = ""
        if kind == "tool" and not shown and start == 0:
            empty, meta[REASON] = why_empty(view, self.servers(snapshot, view, principal))
        if meta:
            parts.append(b',"_meta":%b' % orjson.dumps(meta))
        if era == "modern":
            parts.append(b',"resultType":"complete","ttlMs":%d,"cacheScope":"private"' % TTL_MILLISECONDS)
        return _Page(b"{" + b"".join(parts) + b"}", empty)

    def _forget(self, snapshot: Snapshot) -> None:
        self._of, self._bytes = snapshot.origin, 0
        self._pages, self._words = {}, {}

    def _said(self, snapshot: Snapshot, key: tuple[object, ...], say: Callable[[], bytes]) -> bytes:
        """What a greeting says, put together once per endpoint and set of scopes."""
        if snapshot.origin is not self._of:
            self._forget(snapshot)
        said = self._words.get(key)
        if said is None:
            if len(self._words) >= MOST_GREETINGS_KEPT:
                self._words.clear()
            said = self._words[key] = say()
        return said

    def discover(self, snapshot: Snapshot, view: View, principal: Principal) -> bytes:
        """The result of `server/discover`."""
        key = (
            view.key,
            snapshot.variant,
            view.mode,
            view.profile,
            MODERN_VERSION,
            self._admission.rules(principal).calls,
        )
        return self._said(snapshot, key, partial(self._discover, snapshot, view, principal))

    def _discover(self, snapshot: Snapshot, view: View, principal: Principal) -> bytes:
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
        key = (view.key, snapshot.variant, view.mode, view.profile, version, self._admission.rules(principal).calls)
        return self._said(snapshot, key, partial(self._initialize, snapshot, view, version, principal))

    def _initialize(self, snapshot: Snapshot, view: View, version: str, principal: Principal) -> bytes:
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
        return "\n\n".join(one for one in (HOW_TO[view.mode], self._fit(snapshot, view, principal), words) if one)

    def _fit(self, snapshot: Snapshot, view: View, principal: Principal) -> str:
        """What a client is told of a list that is not what it would be for others."""
        profile = PROFILES.get(view.profile, ANY)
        if not self._overfull(snapshot, view, principal, profile):
            return ""
        count, most = self._count(snapshot, view, principal), profile.most_tools
        how = f"{most} of them are listed; the others" if view.mode == "all" else "They are not listed, and"
        return f"There are {count} tools and {profile.title} takes {most}. {how} can be called by name all the same."

    def _info(self, snapshot: Snapshot, view: View, era: Era = "modern") -> Mapping[str, object]:
        if not view.key.startswith("s/"):
            return HUB_INFO
        server = snapshot.servers[view.servers[0]]
        return server.info.get(server.era_for(era)) or HUB_INFO


def why_empty(view: View, usable: Sequence[Server]) -> tuple[str, str]:
    """Why an endpoint lists no tool to a caller who may use these of its servers: a word, and a sentence."""
    if not view.servers:
        return "no-servers", "No server is registered here yet."
    if not usable:
        return "no-grant", "This key allows nothing here. Ask an administrator for one with a scope `call`."
    waiting = [one.name for one in usable if not one.eras]
    if waiting:
        return "not-reached", f"Not reached since they were registered: {', '.join(waiting)[:LONGEST_REASON]}."
    return "nothing-offered", f"No tools are offered by {', '.join(one.name for one in usable)[:LONGEST_REASON]}."


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


def _offset(cursor: object) -> int:
    """Where a page starts. After a change the old offset still holds roughly, which beats an error mid-list.

    Also one of a later revision: another worker may be a moment ahead of this one.
    """
    try:
        if not isinstance(cursor, str) or len(cursor) > 100:
            raise ValueError
        told, _, offset = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).partition(b".")
        if int(told) < 0:
            raise ValueError
        return max(int(offset), 0)
    except (ValueError, binascii.Error) as error:
        raise InvalidParams("The cursor is not one that this endpoint gave") from error


def no_endpoint(key: str) -> str:
    """The same words for an endpoint that is not there and one that is withheld."""
    return f"There is no endpoint /mcp/{key}"
