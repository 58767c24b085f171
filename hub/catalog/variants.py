"""The snapshot as those see it who get a version that is tried out: the parts of its servers replaced by theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hub.catalog.publisher import joined
from hub.catalog.snapshot import Snapshot, View


def variant(origin: Snapshot, chosen: frozenset[str]) -> Snapshot:
    """The snapshot of those who get the canaries of the servers `chosen`."""
    servers = dict(origin.servers)
    for name in chosen:
        servers[name] = origin.canaries[name].server
    return replace(origin, servers=servers, views=_Views(origin, chosen), variant=chosen, base=origin)


class _Views(Mapping[str, View]):
    """The views of a variant, each made when it is first asked for."""

    def __init__(self, origin: Snapshot, chosen: frozenset[str]) -> None:
        self._origin = origin
        self._chosen = chosen
        self._made: dict[str, View] = {}

    def __getitem__(self, key: str) -> View:
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _overlaid(self._origin, self._origin.views[key], self._chosen)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._origin.views)

    def __len__(self) -> int:
        return len(self._origin.views)


def _overlaid(origin: Snapshot, view: View, chosen: frozenset[str]) -> View:
    """A view with the parts of the chosen servers replaced by their canaries', in the same places."""
    theirs = {name: origin.canaries[name].parts[view.key] for name in chosen if view.key in origin.canaries[name].parts}
    ours = {part.server: part for part in view.parts}
    if not theirs and not chosen & ours.keys():
        return view
    kept = {name: part for name, part in (ours | theirs).items() if name in theirs or name not in chosen}
    parts = tuple(kept[name] for name in origin.servers if name in kept)
    if view.key.startswith("s/"):
        part = parts[0]
        return replace(view, listed=part.listed, names=part.names, parts=parts)
    aliases = next(iter(origin.canaries.values())).aliases
    servers = view.servers if not view.key else tuple(part.server for part in parts)
    made = joined(view.key, parts, servers, aliases)
    return replace(made, mode=view.mode, pinned=view.pinned, client=view.client)
