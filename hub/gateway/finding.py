"""The tools of search mode: find a tool by what it does, read its definition, call it.

What is found and described is what the caller may call, chosen before anything is ranked. `call_tool` is the call of
the tool it names, as if that had been called directly: questions, progress, cancellation and retries with
`requestState` pass, for they belong to the request and not to its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
from msgspec import Raw

from hub.audit.recorder import Audit
from hub.catalog.finder import Finder
from hub.catalog.snapshot import Era, Mode, Target
from hub.errors import InvalidParams
from hub.gateway.calls import Call, Calls, Emit, Outcome
from hub.gateway.outgoing import mirrored
from hub.gateway.own import OWN, answered, arguments, failed
from hub.policy.admission import Admission
from hub.upstream import jsonrpc

SEARCH: frozenset[Mode] = frozenset({"search"})
LOOKING: frozenset[Mode] = frozenset({"search", "code"})

FEW, MOST = 5, 20
"""Tools found unless asked for more, and at most."""

LONGEST_SAID = 240
"""Characters of a description that a find shows; `describe_tool` shows all."""

MOST_PARAMETERS = 12

READS = {"readOnlyHint": True, "openWorldHint": False}

FIND_TOOLS = orjson.dumps(
    {
        "name": "find_tools",
        "title": "Find tools",
        "description": "Find tools by what they do. Say in a sentence what has to be done, in any language; for "
        "several steps ask once for each. Gives names, parameters (? marks optional ones) and descriptions.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What the tool should do"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST, "default": FEW},
                "server": {"type": "string", "description": "Only tools of this server"},
            },
            "required": ["query"],
        },
        "annotations": READS,
    }
)
DESCRIBE_TOOL = orjson.dumps(
    {
        "name": "describe_tool",
        "title": "Describe a tool",
        "description": "The whole definition of a tool with its schema, for when find_tools does not tell enough.",
        "inputSchema": {
            "type": "object",
            "properties": {"name": {"type": "string", "description": "The tool's name, as find_tools gave it"}},
            "required": ["name"],
        },
        "annotations": READS,
    }
)
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
class FindTools:
    """Ranks what the caller may call."""

    finder: Finder
    admission: Admission
    name: str = "find_tools"
    modes: frozenset[Mode] = LOOKING
    hands_on: bool = False

    def fragment(self, era: Era) -> bytes:
        """Its definition."""
        return FIND_TOOLS

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """The best tools, as text for a model and as data for a program."""
        given = _values(call)
        query, limit, server = given.get("query"), given.get("limit", FEW), given.get("server")
        if not isinstance(query, str) or not query.strip():
            raise InvalidParams("find_tools needs a query, a text")
        if not isinstance(limit, int) or isinstance(limit, bool) or not isinstance(server, str | None):
            raise InvalidParams("limit is a whole number and server a name")

        def visible() -> Sequence[Target]:
            targets = callable_tools(call, self.admission)
            return [one for one in targets if one.server == server] if server else targets

        of = (call.view.key, call.era, call.principal.scopes, server)
        found = await self.finder.find(call.snapshot, of, visible, query, min(max(limit, 1), MOST))
        tools = [summary(call, target) for target in found.targets]
        text = "\n".join(f"{one['name']}({one['parameters']}): {one['description']}" for one in tools)
        return answered(call, text or "No tool does that.", {"tools": tools, "rankedBy": found.by})


@dataclass(frozen=True, slots=True)
class DescribeTool:
    """Shows one definition."""

    admission: Admission
    name: str = "describe_tool"
    modes: frozenset[Mode] = SEARCH
    hands_on: bool = False

    def fragment(self, era: Era) -> bytes:
        """Its definition."""
        return DESCRIBE_TOOL

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """The definition as it would be listed; a tool that the caller may not call is as one that is not there."""
        name = _values(call).get("name")
        if not isinstance(name, str):
            raise InvalidParams("describe_tool needs the name of a tool")
        target = call.view.resolve("tool", name)
        if target is None or not self.admission.decide(call.principal, "tool:call", target.server, target.name).allow:
            return failed(call, f"Unknown tool: {name[:200]}. find_tools tells names.")
        return answered(call, target.fragment.decode(), orjson.loads(target.fragment))


def callable_tools(call: Call, admission: Admission) -> Sequence[Target]:
    """Every tool of the endpoint, in whatever mode it is shown, that the caller may call."""
    listed = call.snapshot.views[call.view.key].listed.get((call.era, "tool"), ())
    return admission.visible(call.principal, listed)


def summary(call: Call, target: Target) -> dict[str, Any]:
    """A tool in one line: name, server, parameters with their types, and the start of what it says it does."""
    told = jsonrpc.mapping(orjson.loads(target.fragment))
    said = " ".join(str(told.get("description") or told.get("title") or "").split())
    return {
        "name": target.exposed,
        "server": target.server,
        "parameters": signature(told.get("inputSchema")),
        "description": said if len(said) <= LONGEST_SAID else said[: LONGEST_SAID - 1].rstrip() + "\u2026",
    }


def signature(schema: object) -> str:
    """The parameters of a schema in short: `path: string, head?: integer`."""
    told = jsonrpc.mapping(schema)
    needed = cast("list[Any]", told["required"]) if isinstance(told.get("required"), list) else []
    properties = jsonrpc.mapping(told.get("properties"))
    # What is needed comes first, so that it is not what is cut off.
    names = sorted(properties, key=lambda name: name not in needed)
    parts = [f"{name}{'' if name in needed else '?'}: {_type(properties[name])}" for name in names[:MOST_PARAMETERS]]
    return ", ".join(parts) + (", \u2026" if len(names) > MOST_PARAMETERS else "")


def _type(schema: object) -> str:
    told = jsonrpc.mapping(schema)
    kind: Any = told.get("type")
    if isinstance(kind, list):
        return "|".join(str(one) for one in kind[:3])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - any JSON
    choices: Any = told.get("enum")
    if isinstance(choices, list) and len(orjson.dumps(choices)) <= 60:
        return "|".join(str(one) for one in choices)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - any JSON
    return str(kind) if isinstance(kind, str) else "any"


def _values(call: Call) -> dict[str, Any]:
    return {key: jsonrpc.value(raw) for key, raw in arguments(call).items()}


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
