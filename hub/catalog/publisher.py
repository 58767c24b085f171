"""Builds snapshots from what is stored, and swaps them: readers see the old one or the new one, never a mixture."""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from hub.catalog.discovery import Definition
from hub.catalog.naming import BUDGET, Holder, Names, expose
from hub.catalog.parts import ERAS, Compiled, compiled
from hub.catalog.snapshot import EMPTY, Canary, Era, Kind, Mode, Part, Server, Snapshot, Target, View

__all__ = [
    "ERAS",
    "Change",
    "Curated",
    "Offer",
    "Publisher",
    "Snapshots",
    "Subscription",
    "Trial",
    "compared",
    "joined",
]


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
    client: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary as the publisher takes it: its definitions, and who gets it."""

    offer: Offer
    """Under the name of the server that it is to become."""
    rules: Canary
    """Without what is its own in the views."""


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two snapshots: the servers touched, and the kinds whose lists are no longer the same."""

    servers: frozenset[str]
    kinds: frozenset[Kind]


_Name = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class _Named:
    """Names, and what they were given to: the same holders get the same names."""

    holders: tuple[tuple[Holder, ...], ...]
    owned: Mapping[tuple[Kind, str], Holder]
    names: Names


@dataclass(slots=True)
class Publisher:
    """Builds snapshots, reusing of the build before whatever did not change. Runs in a thread, one build at a time."""

    budget: int = BUDGET
    _holders: dict[str, tuple[tuple[Definition, ...], tuple[Holder, ...]]] = field(
        default_factory=dict[str, tuple[tuple[Definition, ...], tuple[Holder, ...]]]
    )
    """By server: its definitions, and the holder of each."""
    _named: _Named | None = None
    _compiled: dict[str, Compiled] = field(default_factory=dict[str, Compiled])
    _chosen: dict[tuple[str, ...], dict[str, tuple[Part, Part | None]]] = field(
        default_factory=dict[tuple[str, ...], dict[str, tuple[Part, Part | None]]]
    )
    """By a collection's members and by server: a part, and what the collection takes of it."""
    _tried: dict[str, Compiled] = field(default_factory=dict[str, Compiled])
    """By place: the versions that are tried out."""

    def names(
        self, offers: Sequence[Offer], owned: Mapping[tuple[Kind, str], Holder], trials: Iterable[Trial] = ()
    ) -> Names:
        """The exposed name of everything offered; `names.claims` are to be stored before they are published.

        What only a canary has is named last, so that trying it out renames nothing of anybody else's.
        """
        names = self._stable_names(offers, owned)
        held = set(names.listed)
        fresh = {holder: None for one in trials for holder in _holders(one.offer) if holder not in held}
        if not fresh:
            return names
        wider = expose([*names.listed, *fresh], {**owned, **names.claims}, budget=self.budget)
        return Names(
            {**names.listed, **{holder: wider.listed[holder] for holder in fresh}},
            {**{key: holder for key, holder in wider.callable.items() if holder in fresh}, **names.callable},
            {**names.claims, **{key: holder for key, holder in wider.claims.items() if holder in fresh}},
        )

    def _stable_names(self, offers: Sequence[Offer], owned: Mapping[tuple[Kind, str], Holder]) -> Names:
        holders = tuple(self._holders_of(offer) for offer in offers)
        known = self._named
        if known is not None and known.owned is owned and known.holders == holders:
            return known.names
        names = expose(itertools.chain.from_iterable(holders), owned, budget=self.budget)
        self._named = _Named(holders, owned, names)
        return names

    def build(
        self,
        offers: Sequence[Offer],
        collections: Sequence[Curated],
        names: Names,
        revision: int,
        trials: Iterable[Trial] = (),
    ) -> Snapshot:
        """All views at one revision. `offers` are in the order of registration, which is the order of the lists."""
        built = {offer.server.name: self._compile(offer, names) for offer in offers}
        self._compiled = built
        self._holders = {name: known for name, known in self._holders.items() if name in built}
        shared = tuple(one.shared for one in built.values())
        aliases: list[tuple[_Name, _Name]] = [
            (alias, (holder.kind, names.listed[holder])) for alias, holder in names.aliases
        ]
        views = {"": joined("", shared, tuple(built), aliases)}
        for name, one in built.items():
            views[f"s/{name}"] = View(f"s/{name}", (name,), one.own.listed, one.own.names, parts=(one.own,))
        before, self._chosen = self._chosen, {}
        for collection in collections:
            known = before.get(collection.members, {})
            taken = {part.server: _taken(part, collection.members, known.get(part.server)) for part in shared}
            self._chosen[collection.members] = taken
            parts = tuple(part for _, part in taken.values() if part is not None)
            key = f"c/{collection.name}"
            plain = joined(key, parts, tuple(part.server for part in parts), aliases)
            views[key] = replace(plain, mode=collection.mode, pinned=collection.pinned, client=collection.client)
        servers = {offer.server.name: offer.server for offer in offers}
        canaries = {one.offer.server.name: self._canary(one, collections, names, tuple(aliases)) for one in trials}
        self._tried = {one.server.place: self._tried[one.server.place] for one in canaries.values()}
        return Snapshot(revision, servers, views, canaries=canaries)

    def _canary(
        self,
        trial: Trial,
        collections: Iterable[Curated],
        names: Names,
        aliases: tuple[tuple[_Name, _Name], ...],
    ) -> Canary:
        """What is a canary's in every view that shows any of it."""
        server, definitions = trial.offer.server, trial.offer.definitions
        exposed = tuple(names.listed[holder] for holder in _holders(trial.offer))
        before = self._tried.get(server.place)
        if before is None or not before.serves(definitions, server.eras, exposed):
            before = self._tried[server.place] = compiled(server, definitions, exposed, before)
        parts = {"": before.shared, f"s/{server.name}": before.own}
        for collection in collections:
            part = _taken(before.shared, collection.members, None)[1]
            if part is not None:
                parts[f"c/{collection.name}"] = part
        return replace(trial.rules, server=server, parts=parts, aliases=aliases)

    def _holders_of(self, offer: Offer) -> tuple[Holder, ...]:
        """The holder of each definition; the same object for as long as they are called the same."""
        name = offer.server.name
        definitions, holders = self._holders.get(name, (None, ()))
        if definitions is offer.definitions:
            return holders
        once: dict[tuple[Kind, str], Holder] = {}
        fresh = tuple(
            once.setdefault((item.kind, item.name), Holder(name, item.kind, item.name)) for item in offer.definitions
        )
        holders = holders if holders == fresh else fresh
        self._holders[name] = (offer.definitions, holders)
        return holders

    def _compile(self, offer: Offer, names: Names) -> Compiled:
        exposed = tuple(map(names.listed.__getitem__, self._holders_of(offer)))
        before = self._compiled.get(offer.server.name)
        if before is not None and before.serves(offer.definitions, offer.server.eras, exposed):
            return before
        return compiled(offer.server, offer.definitions, exposed, before)


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

    def __init__(self, tell_after: float = 0.0) -> None:
        """`tell_after`: seconds until subscribers hear of a change, for others to serve it first."""
        self._tell_after = tell_after
        self.current: Snapshot = EMPTY
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def subscribe(self) -> Subscription:
        """From now on, every change. A subscription that nobody holds any more is forgotten."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        return subscription

    def swap(self, snapshot: Snapshot, change: Change | None = None) -> Change:
        """Put a snapshot in force and tell the subscribers what changed, if anything did.

        `change` is what `compared` said, for those who had it say so elsewhere than on the event loop.
        """
        change = change or compared(self.current, snapshot)
        self.current = snapshot
        if (change.servers or change.kinds) and self._tell_after:
            asyncio.get_running_loop().call_later(self._tell_after, self.tell, change)
        elif change.servers or change.kinds:
            self.tell(change)
        return change

    def tell(self, change: Change) -> None:
        """Tell the subscribers of a change, also one that a server announced and that left its lists as they were."""
        for subscription in list(self._subscriptions):
            subscription.add(change)


def compared(old: Snapshot, new: Snapshot) -> Change:
    """What differs between two snapshots. A part that both share is not looked into."""
    servers: set[str] = {
        name for name in {*old.servers, *new.servers} if old.servers.get(name) != new.servers.get(name)
    }
    kinds: set[Kind] = set()
    before = {part.server: part for part in old.views[""].parts}
    after = {part.server: part for part in new.views[""].parts}
    for name in before.keys() | after.keys():
        one, other = before.get(name, Part(name, {}, {})), after.get(name, Part(name, {}, {}))
        if one is other:
            continue
        for place in one.listed.keys() | other.listed.keys():
            was, now = one.listed.get(place, ()), other.listed.get(place, ())
            if was != now:
                kinds.add(place[1])
                servers.add(name)
    for name in old.canaries.keys() | new.canaries.keys():
        first, second = old.canaries.get(name), new.canaries.get(name)
        if first is not second and first != second:
            # Some callers change sides, or see other things there: they are told, and the others look once in vain.
            servers.add(name)
            kinds |= {place[1] for canary in (first, second) if canary for place in canary.parts[""].listed}
    return Change(frozenset(servers), frozenset(kinds))


def _holders(offer: Offer) -> Iterator[Holder]:
    for item in offer.definitions:
        yield Holder(offer.server.name, item.kind, item.name)


def joined(key: str, parts: tuple[Part, ...], servers: tuple[str, ...], aliases: Iterable[tuple[_Name, _Name]]) -> View:
    """Parts joined, with the unlisted names that their targets once had."""
    lists: defaultdict[tuple[Era, Kind], list[Target]] = defaultdict(list)
    callable_names: dict[_Name, Target] = {}
    for part in parts:
        callable_names.update(part.names)
        for place, targets in part.listed.items():
            lists[place] += targets
    for alias, listed in aliases:
        target = callable_names.get(listed)
        if target is not None:
            callable_names.setdefault(alias, target)
    listed = {place: tuple(targets) for place, targets in lists.items()}
    return View(key, servers, listed, callable_names, parts=parts)


def is_member(target: Target, members: Iterable[str]) -> bool:
    """Whether a target is meant by one of these patterns of `server` or `server/name`."""
    for member in members:
        server, _, name = member.partition("/")
        if fnmatch.fnmatchcase(target.server, server) and (not name or _matches(target, name)):
            return True
    return False


def _taken(part: Part, members: Sequence[str], known: tuple[Part, Part | None] | None) -> tuple[Part, Part | None]:
    """A part, and what a collection takes of it: the whole, some, or nothing."""
    if known is not None and known[0] is part:
        return known
    patterns = [name for server, _, name in (member.partition("/") for member in members) if _of(part.server, server)]
    if not patterns:
        return part, None
    if "" in patterns:
        return part, part if part.names else None
    lists = {
        place: tuple(target for target in targets if any(_matches(target, name) for name in patterns))
        for place, targets in part.listed.items()
    }
    chosen = {id(target) for targets in lists.values() for target in targets}
    names = {name: target for name, target in part.names.items() if id(target) in chosen}
    return part, Part(part.server, lists, names) if chosen else None


def _of(server: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(server, pattern)


def _matches(target: Target, pattern: str) -> bool:
    # First as it stands: a URI may hold characters that mean something in a pattern.
    return (
        pattern in (target.name, target.exposed)
        or fnmatch.fnmatchcase(target.name, pattern)
        or fnmatch.fnmatchcase(target.exposed, pattern)
    )
