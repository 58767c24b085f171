"""Where a program finds the tools: one module for each server, in it a function for each of its tools.

Made once per snapshot and endpoint from every callable name, without regard to who calls; a program is given of it
what its caller may use.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hub.catalog.snapshot import Snapshot, Target, View
from hub.gateway.code.annotations import identifier
from hub.gateway.code.stubs import Signature, signature

MOST_KEPT = 64
"""Endpoints in their modes whose namespaces are kept for a snapshot."""

_NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Function:
    """One tool as a program calls it."""

    module: str
    name: str
    target: Target
    _signature: Signature | None = field(default=None)

    @property
    def path(self) -> str:
        """As it is written in a program."""
        return f"{self.module}.{self.name}"

    @property
    def signature(self) -> Signature:
        """Its parameters and result, read from the definition at first use."""
        if self._signature is None:
            self._signature = signature(self.name, self.target.fragment)
        return self._signature


@dataclass(frozen=True, slots=True)
class Namespace:
    """The functions by module, and the function of every exposed name."""

    modules: Mapping[str, Mapping[str, Function]]
    by_target: Mapping[tuple[str, str], Function]

    def of(self, target: Target) -> Function | None:
        """The function of a tool."""
        return self.by_target.get((target.server, target.name))

    def mentioned(self, module: str, program: str) -> list[Function]:
        """The functions of a module that a program could mean: those whose name stands in it."""
        functions = self.modules.get(module, {})
        return [functions[name] for name in dict.fromkeys(_NAMES.findall(program)) if name in functions]


class Namespaces:
    """The namespaces of the snapshot in force."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, frozenset[str]], Namespace] = {}
        self._of: Snapshot | None = None

    def of(self, snapshot: Snapshot, view: View) -> Namespace:
        """The namespace of an endpoint."""
        if snapshot.origin is not self._of or len(self._made) >= MOST_KEPT:
            self._made, self._of = {}, snapshot.origin
        key = (view.key, snapshot.variant)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = namespace(view)
        return made


def namespace(view: View) -> Namespace:
    """Name every tool of an endpoint. Where two would be called alike, the later has a number behind its name."""
    modules: dict[str, dict[str, Function]] = {}
    servers: dict[str, str] = {}
    by_target: dict[tuple[str, str], Function] = {}
    for target in _tools(view):
        module = servers.get(target.server)
        if module is None:
            module = servers[target.server] = _module(target.server, modules)
            modules[module] = {}
        name = _free(identifier(target.name), modules[module])
        function = Function(module, name, target)
        modules[module][name] = by_target[target.server, target.name] = function
    return Namespace(modules, by_target)


def _tools(view: View) -> Iterable[Target]:
    """Every tool once, under the name that was found first: aliases come last."""
    seen: dict[tuple[str, str], Target] = {}
    for (kind, _), target in view.names.items():
        if kind == "tool":
            seen.setdefault((target.server, target.name), target)
    return seen.values()


def _module(server: str, taken: Mapping[str, object]) -> str:
    name = identifier(server)
    # A module of ours would stand in front of Python's own, or behind it: neither is what its name says.
    return _free(f"{name}_" if name in sys.stdlib_module_names else name, taken)


def _free(name: str, taken: Mapping[str, object]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
