"""Which name a caller sees: the bare one, `server__name` on a collision, a hashed one where neither fits.

Pure: live holders and the names exposed so far go in, names come out. A name once exposed belongs to its first
owner for good (design §8.2), so a caller's stored name never comes to mean another server's tool.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hub.upstream.address import Kind

LONGEST_NAME = 64
"""Characters that model APIs take for a tool's name."""
CLIENT_PREFIX = "mcp__entrepot__"
"""What the longest-winded common client puts in front of a name before it applies that limit."""
BUDGET = LONGEST_NAME - len(CLIENT_PREFIX)

URI_SCHEME = "entrepot://"
"""A colliding resource is exposed as `entrepot://SERVER/ORIGINAL-URI`; stripping the prefix gives the original back."""

_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")
_HASH_LENGTHS = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Holder:
    """One server's own name (for resources: its URI) for one of its definitions."""

    server: str
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Names:
    """The outcome: the listed name of every live holder, every callable name, and the claims that are new."""

    listed: Mapping[Holder, str]
    callable: Mapping[tuple[Kind, str], Holder]
    claims: Mapping[tuple[Kind, str], Holder]

    @property
    def aliases(self) -> list[tuple[tuple[Kind, str], Holder]]:
        """The callable names that are not listed: few, or none."""
        return [(key, holder) for key, holder in self.callable.items() if self.listed[holder] != key[1]]


def expose(
    holders: Iterable[Holder], owned: Mapping[tuple[Kind, str], Holder] | None = None, *, budget: int = BUDGET
) -> Names:
    """Name every holder; `holders` come in the order of registration, `owned` are the names exposed so far.

    A holder that is alone with its bare name gets it, unless the name belongs to somebody else. Otherwise all are
    listed as `server__name` (a resource's first owner keeps its bare URI).
    """
    live = list(dict.fromkeys(holders))
    owners = dict(owned or {})
    crowd: defaultdict[tuple[Kind, str], list[Holder]] = defaultdict(list)
    for holder in live:
        crowd[holder.kind, bare_name(holder, budget)].append(holder)

    listed: dict[Holder, str] = {}
    claims: dict[tuple[Kind, str], Holder] = {}
    for holder in live:
        bare = bare_name(holder, budget)
        rivals = len(crowd[holder.kind, bare])
        shares = _is_uri(holder.kind) and (crowd[holder.kind, bare][0] == holder or (holder.kind, bare) in owners)
        for exposed in _candidates(holder, bare, budget, bare_allowed=rivals == 1 or shares):
            if owners.setdefault((holder.kind, exposed), holder) == holder:
                listed[holder] = exposed
                break
        # Resources come and go by the thousand; only a contested URI needs to be remembered for good.
        contested = not _is_uri(holder.kind) or rivals > 1 or listed[holder] != bare
        if contested and (holder.kind, listed[holder]) not in (owned or {}):
            claims[holder.kind, listed[holder]] = holder

    present = set(live)
    return Names(listed, {key: owner for key, owner in owners.items() if owner in present}, claims)


def bare_name(holder: Holder, budget: int = BUDGET) -> str:
    """The name without its server: as it is where it can be, else cleaned, shortened and made unique by a hash."""
    if _is_uri(holder.kind):
        return holder.name
    return holder.name if _fits(holder.name, budget) else _shortened(holder, holder.name, budget, _HASH_LENGTHS[0])


def qualified_name(holder: Holder, budget: int = BUDGET) -> str:
    """The name with its server in front."""
    if _is_uri(holder.kind):
        return f"{URI_SCHEME}{holder.server}/{holder.name}"
    long = f"{holder.server}__{holder.name}"
    return long if _fits(long, budget) else _shortened(holder, long, budget, _HASH_LENGTHS[0])


def shortened(holder: Holder, name: str, budget: int) -> str:
    """A name within the budget: its beginning and a hash of whose it is, the same at every time."""
    return _shortened(holder, name, budget, _HASH_LENGTHS[0])


def _candidates(holder: Holder, bare: str, budget: int, *, bare_allowed: bool) -> Iterator[str]:
    if bare_allowed:
        yield bare
    yield qualified_name(holder, budget)
    for length in _HASH_LENGTHS:
        if _is_uri(holder.kind):
            yield f"{URI_SCHEME}{holder.server}.{_digest(holder)[:length]}/{holder.name}"
        else:
            yield _shortened(holder, f"{holder.server}__{holder.name}", budget, length)
    attempt = 0
    while True:  # ends: each round yields a name that has not been yielded before, and owners are finite
        attempt += 1
        salted = hashlib.sha256(f"{_digest(holder)}{attempt}".encode()).hexdigest()
        yield f"{URI_SCHEME}{salted}/{holder.name}" if _is_uri(holder.kind) else f"x{salted}"[:budget]


def _fits(name: str, budget: int) -> bool:
    return 0 < len(name) <= budget and not _FOREIGN.search(name)


def _shortened(holder: Holder, name: str, budget: int, length: int) -> str:
    digest = _digest(holder)[:length]
    return f"{_FOREIGN.sub('_', name)[: max(budget - length - 1, 0)]}_{digest}"[-budget:]


def _digest(holder: Holder) -> str:
    return hashlib.sha256(f"{holder.kind}\0{holder.server}\0{holder.name}".encode()).hexdigest()


def _is_uri(kind: Kind) -> bool:
    return kind in ("resource", "template")
