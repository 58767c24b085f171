"""The call: audit around it; admit, limit, guard the arguments, relay, guard the result.

One method serves everything that names a target: tools, prompts, resources, completion. The record is in the
spool when it returns, so before the answer leaves.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from time import perf_counter
from typing import Any, Protocol

import orjson
from msgspec import Raw

from hub.audit.recorder import Audit
from hub.catalog.snapshot import Era, Kind, Server, Snapshot, Target, View
from hub.errors import HubError, InvalidParams
from hub.gateway.sessions import Session
from hub.guardrails.chain import Guardrails, Looked, Phase
from hub.guardrails.schema import BadArguments
from hub.identity.principal import Principal
from hub.limits.limits import Limits
from hub.policy.admission import Admission, unknown
from hub.telemetry.metrics import Metrics
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments

LONGEST_URI = 2000
"""Characters of a URI that is still matched against templates."""

Emit = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """What a method does to a target: the audited event and action, the kind, and the parameter that names it."""

    action: str
    kind: Kind
    key: str


VERBS: Mapping[str, Verb] = {
    "tools/call": Verb("tool:call", "tool", "name"),
    "prompts/get": Verb("prompt:get", "prompt", "name"),
    "resources/read": Verb("resource:read", "resource", "uri"),
    "resources/subscribe": Verb("resource:read", "resource", "uri"),
    "resources/unsubscribe": Verb("resource:read", "resource", "uri"),
    "completion/complete": Verb("prompt:get", "prompt", "ref"),
}


@dataclass(slots=True)
class Call:
    """One request that names a target, whatever era it came in."""

    principal: Principal
    snapshot: Snapshot
    view: View
    era: Era
    identifier: bytes
    method: str
    params: Fragments
    meta: Mapping[str, Any]
    name: str
    trace: str
    session: Session | None = None
    param_headers: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    via: str = ""
    """The tool of the hub's own (`own.py`) that makes this call for its caller."""
    note: str = ""
    """What the audit should know of how it went."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's answer: HTTP status, the whole JSON-RPC message, and one word for the audit."""

    status: int
    body: bytes
    verdict: str
    detail: str = ""
    """What else the audit is told."""


class Relay(Protocol):
    """Takes an admitted call to its server and back (`bridge.py`)."""

    def send(self, call: Call, server: Server, target: Target, emit: Emit) -> Awaitable[Outcome]:
        """The server's answer; what it says before goes to `emit`."""
        ...


class Calls:
    """Everything that a call passes, in the order that security wants it."""

    def __init__(
        self, admission: Admission, limits: Limits, guardrails: Guardrails, audit: Audit, relay: Relay, metrics: Metrics
    ) -> None:
        self._admission = admission
        self._limits = limits
        self._guardrails = guardrails
        self._audit = audit
        self._relay = relay
        self._metrics = metrics

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """One call from admission to its answer."""
        verb = VERBS[call.method]
        began = perf_counter()
        with self._audit.recording(verb.action, call.principal, target=call.name, trace=call.trace) as record:
            record.via = call.via
            target = self._admit(call, verb)
            record.server, record.target = target.server, target.name
            server = call.snapshot.servers[target.server]
            taken = self._limits.on(call.snapshot, call.principal, target)
            try:
                if taken is None:
                    outcome = await self._guarded(call, server, target, emit)
                else:
                    async with taken:
                        outcome = await self._guarded(call, server, target, emit)
            except HubError as error:
                self._metrics.called(server.name, error.code, perf_counter() - began, server.version)
                raise
            record.outcome, record.detail = outcome.verdict, call.note
        self._metrics.called(server.name, outcome.verdict, perf_counter() - began, server.version)
        return outcome

    async def _guarded(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """Guard the arguments, relay, guard the result."""
        try:
            await self._guard_arguments(call, server, target)
        except BadArguments as error:
            # The model is to read what was wrong and mend it, so it is the tool's error, not the protocol's.
            return Outcome(200, _tool_error(call, error), error.code)
        outcome = await self._relay.send(call, server, target, emit)
        body = await self._guardrails.run(Looked(Phase.RESULT, call.principal, server, target), outcome.body)
        return outcome if body is outcome.body else replace(outcome, body=body)

    async def _guard_arguments(self, call: Call, server: Server, target: Target) -> None:
        raw = call.params.get("arguments")
        if raw is None and target.kind != "tool":
            return
        before = b"{}" if raw is None else bytes(raw)
        after = await self._guardrails.run(Looked(Phase.ARGUMENTS, call.principal, server, target), before)
        if after is not before:
            call.params["arguments"] = Raw(after)

    def _admit(self, call: Call, verb: Verb) -> Target:
        """The target behind the name, if this principal may have it. Denied and absent look the same."""
        target = self._resolve(call, verb)
        if target is None:
            raise unknown(verb.action, call.name)
        self._admission.require(call.principal, verb.action, target.server, target.name, call.name)
        return target

    def _resolve(self, call: Call, verb: Verb) -> Target | None:
        if verb.key == "ref":
            return _referenced(call)
        if verb.kind != "resource":
            return call.view.resolve(verb.kind, call.name)
        return resource(call.snapshot, call.view, call.era, call.name)


def _tool_error(call: Call, error: HubError) -> bytes:
    told: dict[str, Any] = {"content": [{"type": "text", "text": error.message}], "isError": True}
    if call.era == "modern":
        told["resultType"] = "complete"
    return jsonrpc.result(call.identifier, orjson.dumps(told))


def _referenced(call: Call) -> Target | None:
    """The prompt or template that a completion is asked for."""
    reference = jsonrpc.mapping(jsonrpc.value(call.params["ref"])) if "ref" in call.params else {}
    if reference.get("type") == "ref/prompt":
        return call.view.resolve("prompt", str(reference.get("name", "")))
    uri = str(reference.get("uri", ""))
    return call.view.resolve("template", uri) or resource(call.snapshot, call.view, call.era, uri)


def resource(snapshot: Snapshot, view: View, era: Era, uri: str) -> Target | None:
    """What a URI leads to: a listed resource, one of a template's, or that of the only server that can have it.

    A server may serve resources that it does not list, so an endpoint with a single candidate asks it.
    """
    listed = view.resolve("resource", uri)
    if listed is not None:
        return listed
    templates = view.listed.get((era, "template"), ()) if len(uri) <= LONGEST_URI else ()
    for template in templates:
        if template_pattern(template.exposed).fullmatch(uri):
            # A template that was renamed to avoid a collision reads as the server's own once the change is undone.
            return _unlisted(template.server, _unrenamed(template, uri))
    candidates = [name for name in view.servers if "resources" in snapshot.servers[name].facts(era)]
    return _unlisted(candidates[0], uri) if len(candidates) == 1 else None


def _unlisted(server: str, uri: str) -> Target:
    return Target(server, "resource", uri, uri, b"", "", reads=True, repeatable=True)


def _unrenamed(template: Target, uri: str) -> str:
    if template.exposed == template.name or not template.exposed.endswith(template.name):
        return uri
    return uri.removeprefix(template.exposed.removesuffix(template.name))


@lru_cache(maxsize=4096)
def template_pattern(template: str) -> re.Pattern[str]:
    """What a URI template (RFC 6570, levels 1 to 3) can expand to: each expression stands for any text without spaces.

    Every text between expressions is matched where it comes first and never tried again (an atomic group), which finds
    the same and takes linear time: templates are a server's, URIs a caller's, and neither may hold up the hub.
    """
    if len(template) > 2000:
        raise InvalidParams("A resource template is longer than 2000 characters")
    first, *rest = map(re.escape, re.split(r"(?:\{[^{}]*\})+", template))
    if not rest:
        return re.compile(first)
    *between, last = rest
    return re.compile("".join([first, *(rf"(?>\S*?{text})" for text in between), rf"\S*{last}"]))
