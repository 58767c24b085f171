"""How an endpoint shows its tools, and who may say so: the URL, the client's capabilities, or the collection.

In any other mode than `all` the hub's own tools (`own.py`) stand in the list instead of the servers', beside those
that are pinned. Every name stays callable: a mode shortens a list, it withholds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from hub.catalog import fragments
from hub.catalog.naming import Holder, qualified_name
from hub.catalog.publisher import is_member
from hub.catalog.snapshot import MODES, Kind, Mode, Snapshot, Target, View
from hub.errors import BadRequest
from hub.upstream import jsonrpc

EXTENSION = "dev.entrepot/discovery"
"""The capability by which a client asks: `{"mode": "search"}` under `extensions` or `experimental`."""

MOST_FIELDS = 50

HOW_TO: Mapping[Mode, str] = {
    "all": "",
    "search": "Not every tool is listed: describe what you need to find_tools, then run what it found with call_tool.",
    "code": "Not every tool is listed: run_code runs a program over all of them; find_tools tells their names.",
}
"""What a client's model is told at the start."""


def in_query(query: bytes) -> Mode | None:
    """The mode that a URL asks for, `?mode=search`. Raises `BadRequest` for one that does not exist."""
    try:
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise BadRequest("The query of the URL has too many fields") from error
    asked = [value for name, value in fields if name == "mode"]
    if not asked:
        return None
    if len(asked) > 1 or asked[0] not in MODES:
        raise BadRequest(f"The URL's mode must be one of {', '.join(MODES)}")
    return asked[0]


def in_capabilities(capabilities: object) -> Mode | None:
    """The mode that a client's capabilities ask for; one that does not exist is as if nothing had been said."""
    told = jsonrpc.mapping(capabilities)
    for place in ("extensions", "experimental"):
        if place in told:
            asked = jsonrpc.mapping(jsonrpc.mapping(told[place]).get(EXTENSION)).get("mode")
            if asked in MODES:
                return asked
    return None


class Modes:
    """Views as a mode shows them, made once per snapshot. `own` tells the names of the hub's own tools in a mode."""

    def __init__(self, own: Callable[[Mode], Collection[str]]) -> None:
        self._own = own
        self._made: dict[tuple[str, frozenset[str], Mode], View] = {}
        self._of: Snapshot | None = None

    def shown(self, snapshot: Snapshot, view: View, mode: Mode) -> View:
        """The view in that mode."""
        if snapshot.origin is not self._of:
            self._made, self._of = {}, snapshot.origin
        key = (view.key, snapshot.variant, mode)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = in_mode(view, mode, self._own(mode))
        return made


def in_mode(view: View, mode: Mode, own: Collection[str]) -> View:
    """The view with only its pinned tools listed.

    The names of the hub's own tools are theirs in this mode. A server's tool of such a name is known as
    `server__tool`, as after any collision, and through `call_tool` by both names.
    """
    if mode == "all":
        return replace(view, mode=mode)
    listed = dict(view.listed)
    names: dict[tuple[Kind, str], Target] = dict(view.names)
    for (era, kind), targets in view.listed.items():
        if kind == "tool":
            listed[era, kind] = tuple(
                _renamed(one) if one.exposed in own else one for one in targets if is_member(one, view.pinned)
            )
    for name in own:
        target = view.names.get(("tool", name))
        if target is not None:
            renamed = _renamed(target)
            names.setdefault(("tool", renamed.exposed), renamed)
    return replace(view, listed=listed, names=names, mode=mode, parts=())


def _renamed(target: Target) -> Target:
    exposed = qualified_name(Holder(target.server, "tool", target.name))
    return replace(target, exposed=exposed, fragment=fragments.rewritten(target.fragment, {"name": exposed}))
