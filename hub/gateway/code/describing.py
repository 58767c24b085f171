"""`describe_tool` of code mode: tools as the typed functions that a program calls, instead of their JSON Schemas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from hub.catalog.snapshot import Era, Mode
from hub.errors import InvalidParams
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.code.namespace import Function, Namespace, Namespaces
from hub.gateway.code.run_code import CODE
from hub.gateway.own import answered, arguments, failed
from hub.policy.admission import Admission
from hub.upstream import jsonrpc

MOST_NAMES = 20
"""Tools described at once."""

DEFINITION = {
    "name": "describe_tool",
    "title": "Describe tools",
    "description": "The typed functions of tools that find_tools named, as a program for run_code calls them.",
    "inputSchema": {
        "type": "object",
        "properties": {"names": {"type": "array", "items": {"type": "string"}, "description": "Names of tools"}},
        "required": ["names"],
    },
}


@dataclass(frozen=True, slots=True)
class DescribeFunctions:
    """Shows tools as functions, by the names that lists have or the paths that programs have."""

    admission: Admission
    namespaces: Namespaces
    name: str = "describe_tool"
    modes: frozenset[Mode] = CODE
    hands_on: bool = False
    _fragment: bytes = field(default=orjson.dumps(DEFINITION))

    def fragment(self, era: Era) -> bytes:
        """Its definition."""
        return self._fragment

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """The functions, one below the other."""
        names = _names(call)
        namespace = self.namespaces.of(call.snapshot, call.view)
        shown: list[str] = []
        unknown: list[str] = []
        for name in names:
            function = self._function(call, namespace, name)
            if function is None:
                unknown.append(name)
            else:
                shown.append(function.signature.shown(function.module))
        if unknown:
            shown.append(f"# Unknown tool: {', '.join(unknown)}")
        return answered(call, "\n\n".join(shown)) if len(unknown) < len(names) else failed(call, shown[0])

    def _function(self, call: Call, namespace: Namespace, name: str) -> Function | None:
        """The function behind a name, if the caller may call it: denied and absent look the same."""
        target = call.view.resolve("tool", name)
        if target is not None:
            function = namespace.of(target)
        else:
            module, _, own = name.rpartition(".")
            function = namespace.modules.get(module, {}).get(own)
        if function is None:
            return None
        target = function.target
        return (
            function if self.admission.decide(call.principal, "tool:call", target.server, target.name).allow else None
        )


def _names(call: Call) -> list[str]:
    given = arguments(call)
    raw = given.get("names", given.get("name"))
    told: Any = jsonrpc.value(raw) if raw is not None else None
    names = [told] if isinstance(told, str) else told
    if not isinstance(names, list) or not names or len(cast("list[object]", names)) > MOST_NAMES:
        raise InvalidParams(f"describe_tool needs `names`, a list of 1 to {MOST_NAMES} tools")
    return [str(name)[:200] for name in cast("list[object]", names)]
