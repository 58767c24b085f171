"""Which client asks, and an endpoint as it can take it: names of its length in its lists, callable beside the others.

Chosen by the URL (`?client=NAME`), else by the collection, else by the name that the client gives itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from hub.catalog.profiles import ANY, PROFILES, Profile, of_client
from hub.catalog.publisher import is_member
from hub.catalog.snapshot import Kind, Mode, Snapshot, Target, View
from hub.errors import BadRequest
from hub.gateway.dialects import name_for
from hub.upstream.jsonrpc import mapping

MOST_KEPT = 256
"""Endpoints as clients can take them, kept for a snapshot."""


def client_in_query(query: bytes) -> str:
    """The profile that a URL asks for, `?client=cursor`. Raises `BadRequest` for one that does not exist."""
    asked = [value for name, value in parse_qsl(query.decode("latin-1")) if name == "client"]
    if not asked:
        return ""
    if len(asked) > 1 or asked[0] not in PROFILES:
        raise BadRequest(f"The URL's client must be one of {', '.join(PROFILES)}")
    return asked[0]


@dataclass(frozen=True, slots=True)
class Client:
    """What says which client asks: the profile that the URL names, and the client's own `clientInfo`."""

    named: str = ""
    info: object = None

    def profile(self, view: View) -> Profile:
        """The profile to serve it by."""
        named = self.named or view.client
        if named:
            return PROFILES.get(named, ANY)
        name = mapping(self.info).get("name")
        return of_client(name) if isinstance(name, str) else ANY


SOMEBODY = Client()


class Fits:
    """Endpoints as clients can take them, made once per snapshot."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, frozenset[str], Mode, str], View] = {}
        self._of: Snapshot | None = None

    def shown(self, snapshot: Snapshot, view: View, profile: Profile) -> View:
        """The view for a client: every name that its lists have can be called."""
        if snapshot.origin is not self._of or len(self._made) >= MOST_KEPT:
            self._made, self._of = {}, snapshot.origin
        key = (view.key, snapshot.variant, view.mode, profile.name)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = replace(view, names=_with_short(view, profile), profile=profile.name)
        return made


def cut(targets: Sequence[Target], pinned: Sequence[str], most: int) -> tuple[Target, ...]:
    """As many tools as a client takes, those that are pinned first; the rest in the order of the list."""
    first = [one for one in targets if is_member(one, pinned)]
    taken = set(map(id, first))
    return (*first, *(one for one in targets if id(one) not in taken))[:most]


def _with_short(view: View, profile: Profile) -> Mapping[tuple[Kind, str], Target]:
    short: dict[tuple[Kind, str], Target] = {
        ("tool", name_for(target, profile)): target
        for (kind, exposed), target in view.names.items()
        if kind == "tool" and profile.longest_name and len(exposed) > profile.longest_name
    }
    # A name that something has already keeps its meaning.
    return {**short, **view.names} if short else view.names
