"""Scopes compiled into the few sets that a decision looks into: the only place that says what a scope allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.identity.scopes import known


@dataclass(frozen=True, slots=True)
class Rules:
    """What one set of scopes allows."""

    all_calls: bool
    """Nothing behind MCP is withheld, so a list need not be filtered."""
    servers: frozenset[str]
    """Servers that may be called whole."""
    names: frozenset[tuple[str, str]]
    """Single tools, prompts or resources: server, and its own name for it."""
    names_of: Mapping[str, frozenset[str]]
    """The same by server."""
    calls: frozenset[str]
    """The scopes that decide all of the above: who has the same of these sees the same."""
    all_models: bool
    models: frozenset[str]
    reads: bool
    writes: bool


def compile_rules(scopes: Iterable[str]) -> Rules:
    """The rules of these scopes; a scope of unknown form allows nothing."""
    granted = frozenset(scope for scope in scopes if known(scope))
    calls = [scope.removeprefix("call:") for scope in granted if scope.startswith("call:")]
    names = [call.partition("/") for call in calls if "/" in call]
    by_server: defaultdict[str, set[str]] = defaultdict(set)
    for server, _, name in names:
        by_server[server].add(name)
    return Rules(
        all_calls="call" in granted,
        servers=frozenset(call for call in calls if "/" not in call),
        names=frozenset((server, name) for server, _, name in names),
        names_of={server: frozenset(some) for server, some in by_server.items()},
        calls=frozenset({"call"} if "call" in granted else calls),
        all_models="models" in granted,
        models=frozenset(scope.removeprefix("models:") for scope in granted if scope.startswith("models:")),
        reads="admin" in granted or "admin:read" in granted,
        writes="admin" in granted,
    )
