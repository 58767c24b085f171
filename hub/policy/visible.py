"""What a principal sees of a view: whole servers where a scope names the server, single targets where it names those.

Worked out once per snapshot, view and effective scopes, so that neither a call nor a page costs more with more tools.
A whole server is a reference to the snapshot's own part; only hand-picked targets take room, and that is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from hub.catalog.snapshot import Era, Kind, Part, Server, Snapshot, Target, View
from hub.identity.principal import Principal
from hub.policy.admission import Admission
from hub.policy.rules import Rules

MOST_PLACES = 1_000_000
"""Places of targets and parts kept, 8 bytes each: 1,000 principals with 100 servers of their own take a tenth."""

PLACES_OF_ONE = 16
"""What keeping a selection costs by itself."""


class Selection:
    """The visible targets of one kind in the order of the list, without a list of them all."""

    __slots__ = ("_length", "_runs")

    def __init__(self, runs: Sequence[tuple[Target, ...]]) -> None:
        self._runs = runs
        self._length = sum(map(len, runs))

    def __len__(self) -> int:
        return self._length

    def page(self, start: int, count: int) -> list[Target]:
        """`count` of them from `start`, or as many as there are."""
        taken: list[Target] = []
        for run in self._runs:
            if start >= len(run):
                start -= len(run)
                continue
            taken += run[start : start + count - len(taken)]
            if len(taken) >= count:
                break
            start = 0
        return taken

    def all(self) -> list[Target]:
        """All of them."""
        return list(chain.from_iterable(self._runs))


_Key = tuple[str, frozenset[str], str, Era, Kind, frozenset[str]]


class Visible:
    """Selections of one worker, of the snapshot in force."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._of: Snapshot | None = None
        self._selections: dict[_Key, tuple[Selection, int]] = {}
        self._servers: dict[tuple[str, frozenset[str], frozenset[str]], tuple[Server, ...]] = {}
        self._places = 0

    def targets(self, snapshot: Snapshot, view: View, era: Era, kind: Kind, principal: Principal) -> Selection:
        """What this principal may have of a view's list."""
        if snapshot.origin is not self._of:
            self._forget(snapshot)
        rules = self._admission.rules(principal)
        key = (view.key, snapshot.variant, view.mode, era, kind, rules.calls)
        # Taken out and put back, so that the first is the one that was not asked for the longest.
        found = self._selections.pop(key, None)
        if found is None:
            found = self._select(view, era, kind, principal, rules)
            self._places += found[1]
            while self._places > MOST_PLACES and self._selections:
                self._places -= self._selections.pop(next(iter(self._selections)))[1]
        self._selections[key] = found
        return found[0]

    def servers(self, snapshot: Snapshot, view: View, principal: Principal) -> tuple[Server, ...]:
        """The servers of a view, as declared, of which this principal may use anything."""
        if snapshot.origin is not self._of:
            self._forget(snapshot)
        rules = self._admission.rules(principal)
        key = (view.key, snapshot.variant, rules.calls)
        found = self._servers.get(key)
        if found is None:
            whole = snapshot.views[view.key]
            used = {part.server for part in whole.parts if any(_run(rules, part, place) for place in part.listed)}
            found = tuple(
                snapshot.servers[name]
                for name in whole.servers
                if rules.all_calls or name in rules.servers or name in used
            )
            self._places += len(found) + PLACES_OF_ONE
            if self._places > MOST_PLACES:
                self._forget(snapshot)
            self._servers[key] = found
        return found

    def _select(self, view: View, era: Era, kind: Kind, principal: Principal, rules: Rules) -> tuple[Selection, int]:
        """A selection, and the places that it takes by itself."""
        listed = view.listed.get((era, kind), ())
        if rules.all_calls:
            return Selection((listed,)), PLACES_OF_ONE
        if not view.parts:
            own = tuple(self._admission.visible(principal, listed))
            return Selection((own,)), len(own) + PLACES_OF_ONE
        places = PLACES_OF_ONE
        runs: list[tuple[Target, ...]] = []
        for part in view.parts:
            run = _run(rules, part, (era, kind))
            if run:
                runs.append(run)
                places += 1 if part.server in rules.servers else len(run) + 1
        return Selection(tuple(runs)), places

    def _forget(self, snapshot: Snapshot) -> None:
        self._of, self._places = snapshot.origin, 0
        self._selections, self._servers = {}, {}


def _run(rules: Rules, part: Part, place: tuple[Era, Kind]) -> tuple[Target, ...]:
    """What the rules allow of a part."""
    targets = part.listed.get(place, ())
    if rules.all_calls or part.server in rules.servers:
        return targets
    granted = rules.names_of.get(part.server)
    return tuple(one for one in targets if one.name in granted) if granted else ()
