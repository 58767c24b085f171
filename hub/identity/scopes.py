"""Scopes as words of a key: which forms exist, which covers which, and that nobody grants more than it has.

The meaning of a scope for an action is `hub.policy.rules`; this room stands below it and knows only the words.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.errors import InvalidParams
from hub.identity.principal import Principal

DEFAULT_SCOPES = frozenset({"call", "models"})
"""What a key gets when nobody says: it may call everything and administer nothing."""

FAMILIES = ("call", "models", "admin")
LONGEST = 300


def known(scope: str) -> bool:
    """Whether a scope is of a form that can ever allow something."""
    family, separator, rest = scope.partition(":")
    if family not in FAMILIES or len(scope) > LONGEST or not scope.isprintable() or bool(separator) != bool(rest):
        return False
    if family == "call" and rest:
        server, slash, name = rest.partition("/")
        return bool(server) and bool(slash) == bool(name)
    return family != "admin" or rest in ("", "read")


def checked(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes as a set. Raises `InvalidParams` naming every one that could never allow anything."""
    wanted = frozenset(scopes)
    if strange := sorted(scope for scope in wanted if not known(scope)):
        raise InvalidParams(
            f"Unknown scopes: {', '.join(map(repr, strange))}.",
            hint="Scopes are call, call:SERVER, call:SERVER/NAME, models, models:NAME, admin and admin:read.",
            data={"scopes": strange},
        )
    return wanted


def covers(held: str, wanted: str) -> bool:
    """Whether `held` allows all that `wanted` allows."""
    if held == wanted:
        return True
    family, _, rest = held.partition(":")
    if not rest:
        return wanted.startswith(f"{family}:")
    return family == "call" and "/" not in rest and wanted.startswith(f"{held}/")


def narrowed(scopes: Iterable[str], by: Principal) -> frozenset[str]:
    """What is left of `scopes` when `by` grants them: never more than it holds itself, maybe nothing."""
    kept: set[str] = set()
    for wanted in scopes:
        for held in by.scopes:
            if covers(held, wanted):
                kept.add(wanted)
            elif covers(wanted, held):
                kept.add(held)
    return frozenset(kept)


def beyond(scopes: Iterable[str], by: Principal) -> list[str]:
    """The scopes that `by` cannot grant because it does not hold them whole."""
    return sorted(wanted for wanted in set(scopes) if not any(covers(held, wanted) for held in by.scopes))
