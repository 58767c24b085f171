"""Builds snapshots from what is stored, and swaps them: readers see the old one or the new one, never a mixture."""

from __future__ import annotations

import asyncio
import fnmatch
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

import orjson

from hub.catalog import fragments
from hub.catalog.discovery import NAME_KEYS, Definition, param_headers
from hub.catalog.naming import BUDGET, Holder, Names, expose
from hub.catalog.snapshot import EMPTY, KINDS, Era, Kind, Mode, Server, Snapshot, Target, View

ERAS: tuple[Era, Era] = ("modern", "legacy")


@dataclass(frozen=True, slots=True)
class Offer:
    """A server and its definitions, as the publisher takes them."""

    server: Server
    definitions: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class Curated:
    """A collection as the publisher takes it: patterns of `server` or `server/name`."""

    name: str
    members: tuple[str, ...]
    mode: Mode = "all"
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two snapshots: the servers touched, and the kinds whose lists are no longer the same."""

    servers: frozenset[str]
    kinds: frozenset[Kind]


_Key = tuple[str, Era, Kind, str, str, bytes]


@dataclass(slots=True)
class Publisher:
    """Builds snapshots, reusing the targets of the build before for every definition that did not change."""

    budget: int = BUDGET
    _known: dict[_Key, Target] = field(default_factory=dict[_Key, Target])

    def names(self, offers: Sequence[Offer], owned: Mapping[tuple[Kind, str], Holder]) -> Names:
        """The exposed name of everything offered; `names.claims` are to be stored before they are published."""
        return expose(
            (Holder(offer.server.name, item.kind, item.name) for offer in offers for item in offer.definitions),
            owned,
            budget=self.budget,
        )

    def build(self, offers: Sequence[Offer], collections: Iterable[Curated], names: Names, revision: int) -> Snapshot:
        """All views at one revision. `offers` are in the order of registration, which is the order of the lists."""
        used: dict[_Key, Target] = {}
        shared: list[tuple[Era, Target]] = []
        views: dict[str, View] = {}
        for offer in offers:
            own: list[tuple[Era, Target]] = []
            for era, item in _per_client_era(offer):
                holder = Holder(offer.server.name, item.kind, item.name)
                shared.append((era, self._target(used, era, offer.server.name, item, names.listed[holder])))
                own.append((era, self._target(used, era, offer.server.name, item, item.name)))
            views[f"s/{offer.server.name}"] = _view(f"s/{offer.server.name}", own, (offer.server.name,))
        every = tuple(offer.server.name for offer in offers)
        views[""] = _with_aliases(_view("", shared, every), names)
        for collection in collections:
            chosen: list[tuple[Era, Target]] = [
                (era, target) for era, target in shared if is_member(target, collection.members)
            ]
            holders = {target.server for _, target in chosen}
            key = f"c/{collection.name}"
            bare = _view(key, chosen, tuple(name for name in every if name in holders))
            views[key] = replace(_with_aliases(bare, names), mode=collection.mode, pinned=collection.pinned)
        self._known = used
        return Snapshot(revision, {offer.server.name: offer.server for offer in offers}, views)

    def _target(self, used: dict[_Key, Target], era: Era, server: str, item: Definition, exposed: str) -> Target:
        key = (server, era, item.kind, item.name, exposed, item.body)
        target = used.get(key) or self._known.get(key) or _make(era, server, item, exposed)
        used[key] = target
        return target


class Subscription:
    """Changes as they are published; those that pile up before they are read are merged into one."""

    def __init__(self) -> None:
        self._servers: set[str] = set()
        self._kinds: set[Kind] = set()
        self._pending = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        await self._pending.wait()
        if self._closed:
            raise StopAsyncIteration
        change = Change(frozenset(self._servers), frozenset(self._kinds))
        self._servers.clear()
        self._kinds.clear()
        self._pending.clear()
        return change

    def add(self, change: Change) -> None:
        """Note a change for the reader."""
        self._servers |= change.servers
        self._kinds |= change.kinds
        self._pending.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._pending.set()


class Snapshots:
    """The snapshot in force. One per worker; only the catalog swaps it, on the event loop."""

    def __init__(self) -> None:
        self.current: Snapshot = EMPTY
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def subscribe(self) -> Subscription:
        """From now on, every change. A subscription that nobody holds any more is forgotten."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        return subscription

    def swap(self, snapshot: Snapshot) -> Change:
        """Put a snapshot in force and tell the subscribers what changed, if anything did."""
        change = compared(self.current, snapshot)
        self.current = snapshot
        if change.servers or change.kinds:
            self.tell(change)
        return change

    def tell(self, change: Change) -> None:
        """Tell the subscribers of a change, also one that a server announced and that left its lists as they were."""
        for subscription in list(self._subscriptions):
            subscription.add(change)


def compared(old: Snapshot, new: Snapshot) -> Change:
    """What differs between two snapshots."""
    servers: set[str] = {
        name for name in {*old.servers, *new.servers} if old.servers.get(name) != new.servers.get(name)
    }
    kinds: set[Kind] = set()
    before, after = old.views[""].listed, new.views[""].listed
    for era in ERAS:
        for kind in KINDS:
            was, now = before.get((era, kind), ()), after.get((era, kind), ())
            if was == now:
                continue
            kinds.add(kind)
            one = {(target.server, target.exposed): target.fragment for target in was}
            other = {(target.server, target.exposed): target.fragment for target in now}
            servers.update(key[0] for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return Change(frozenset(servers), frozenset(kinds))


def _per_client_era(offer: Offer) -> list[tuple[Era, Definition]]:
    """What a client of each era is listed: the server's own definitions of that era, else those of the other."""
    return [(era, item) for era in ERAS for item in offer.definitions if item.era == offer.server.era_for(era)]


def _make(era: Era, server: str, item: Definition, exposed: str) -> Target:
    parsed = orjson.loads(item.body)
    replace = {} if exposed == item.name else {NAME_KEYS[item.kind]: exposed}
    headers = param_headers(parsed) if item.kind == "tool" else ()
    reads, repeatable = _effects(parsed) if item.kind == "tool" else (True, True)
    return Target(
        server=server,
        kind=item.kind,
        name=item.name,
        exposed=exposed,
        fragment=fragments.rewritten(item.body, replace, _foreign_members(era, item, parsed)),
        digest=item.digest,
        param_headers=headers,
        reads=reads,
        repeatable=repeatable,
    )


def _effects(tool: Mapping[str, object]) -> tuple[bool, bool]:
    """Whether a tool only reads, and whether it may be repeated, as its server annotates it; silence means neither."""
    said = tool.get("annotations")
    if not isinstance(said, dict):
        return False, False
    hints = cast("dict[str, object]", said)
    reads = hints.get("readOnlyHint") is True
    return reads, reads or hints.get("idempotentHint") is True


def _foreign_members(era: Era, item: Definition, parsed: Mapping[str, object]) -> frozenset[str]:
    """Members that a client of the other era must not see (2025-11-25 schema; experimental tasks of 2025-11-25)."""
    if item.era == era or item.kind != "tool":
        return frozenset()
    if era == "modern":
        return frozenset({"execution"} & parsed.keys())
    schema = parsed.get("outputSchema")
    described_as_object = isinstance(schema, dict) and orjson.dumps(schema.get("type")) == b'"object"'  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - any JSON
    return frozenset() if described_as_object else frozenset({"outputSchema"} & parsed.keys())


def _view(key: str, listed: Sequence[tuple[Era, Target]], servers: tuple[str, ...]) -> View:
    lists: defaultdict[tuple[Era, Kind], list[Target]] = defaultdict(list)
    names: dict[tuple[Kind, str], Target] = {}
    for era, target in listed:
        lists[era, target.kind].append(target)
        # The modern definition wins: it is the one whose headers must be mirrored.
        if era == "modern" or (target.kind, target.exposed) not in names:
            names[target.kind, target.exposed] = target
    return View(key, servers, {place: tuple(targets) for place, targets in lists.items()}, names)


def _with_aliases(view: View, names: Names) -> View:
    """The view with the unlisted names that its targets once had."""
    by_holder = {(target.server, target.kind, target.name): target for target in view.names.values()}
    callable_names = dict(view.names)
    for key, holder in names.callable.items():
        target = by_holder.get((holder.server, holder.kind, holder.name))
        if target is not None:
            callable_names.setdefault(key, target)
    return View(view.key, view.servers, view.listed, callable_names)


def is_member(target: Target, members: Iterable[str]) -> bool:
    """Whether a target is meant by one of these patterns of `server` or `server/name`."""
    for member in members:
        server, _, name = member.partition("/")
        if fnmatch.fnmatchcase(target.server, server) and (not name or _matches(target, name)):
            return True
    return False


def _matches(target: Target, pattern: str) -> bool:
    # First as it stands: a URI may hold characters that mean something in a pattern.
    return (
        pattern in (target.name, target.exposed)
        or fnmatch.fnmatchcase(target.name, pattern)
        or fnmatch.fnmatchcase(target.exposed, pattern)
    )
