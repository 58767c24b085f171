"""The tools of search mode: find a tool by what it does, read its definition, call it.

`call_tool` is the call of the tool it names, as if that had been called directly: questions, progress, cancellation
and retries with `requestState` pass, for they belong to the request and not to its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson
from msgspec import Raw

from hub.audit.recorder import Audit
from hub.catalog.snapshot import Era, Mode
from hub.errors import InvalidParams
from hub.gateway.calls import Call, Calls, Emit, Outcome
from hub.gateway.outgoing import mirrored
from hub.gateway.own import OWN, arguments
from hub.upstream import jsonrpc

SEARCH: frozenset[Mode] = frozenset({"search"})

CALL_TOOL = orjson.dumps(
    {
        "name": "call_tool",
        "title": "Call a tool",
        "description": "Call a tool that find_tools named, with arguments that fit its input schema.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "The tool's name, as find_tools gave it"},
                "arguments": {"type": "object", "description": "The tool's own arguments"},
            },
            "required": ["name"],
        },
    }
)


@dataclass(frozen=True, slots=True)
class CallTool:
    """Hands on to the tool that the arguments name."""

    calls: Calls
    audit: Audit
    name: str = "call_tool"
    modes: frozenset[Mode] = SEARCH
    hands_on: bool = True

    def fragment(self, era: Era) -> bytes:
        """Its definition."""
        return CALL_TOOL

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """The named tool's answer."""
        try:
            inner = unwrapped(call)
        except InvalidParams:
            with self.audit.recording("tool:call", call.principal, server=OWN, target=self.name, trace=call.trace):
                raise
        return await self.calls.call(inner, emit)


def unwrapped(call: Call) -> Call:
    """The call that a call of `call_tool` stands for. Raises `InvalidParams` where it names none."""
    given = arguments(call)
    name = jsonrpc.value(given["name"]) if "name" in given else None
    if not isinstance(name, str) or not name:
        raise InvalidParams("call_tool needs the name of a tool", hint="find_tools tells names.")
    params = dict(call.params) | {"name": Raw(orjson.dumps(name)), "arguments": _object(given.get("arguments"))}
    target = call.view.resolve("tool", name)
    headers = dict(mirrored(target, params)) if target is not None else {}
    return replace(call, params=params, name=name, param_headers=headers, via=call.name)


def _object(raw: bytes | None) -> Raw:
    """The inner arguments. Small models write them as a JSON text, which is taken for what it says."""
    if raw is None:
        return Raw(b"{}")
    text = bytes(raw).strip()
    if text[:1] == b'"':
        text = str(jsonrpc.value(raw)).strip().encode() or b"{}"
    try:
        jsonrpc.fragments(text)
    except jsonrpc.NotJson as error:
        raise InvalidParams("call_tool needs the tool's arguments as an object") from error
    return Raw(text)
