"""Tools of the hub's own, listed and called beside the servers': the protocol, and the way to one of them.

They exist only where an endpoint is shown in another mode than `all` (`modes.py`). Such a call is admitted,
limited, guarded and recorded here as `calls.py` does for the servers'; one that only hands on to another tool is
recorded and counted once, as that tool's call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

import orjson
from msgspec import Raw

from hub.audit.recorder import Audit
from hub.catalog.snapshot import MODES, Address, Era, Mode, Server, Target
from hub.errors import InvalidParams
from hub.gateway.calls import Call, Calls, Emit, Outcome
from hub.guardrails.chain import Guardrails, Looked, Phase
from hub.limits.limits import Limits
from hub.policy.admission import Admission, Withheld, unknown
from hub.telemetry.metrics import Metrics
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments

OWN = "@hub"
"""Where these tools live, as the audit and the metrics say it: no server can be called so."""


_SERVER = Server(OWN, Address(""), "", frozenset(), {}, {}, check_arguments=False)
"""What guardrails see as the server; these tools read their arguments strictly themselves."""


class OwnTool(Protocol):
    """One tool. `call` answers with the whole JSON-RPC message (`answered`, `failed`) or raises a `HubError`."""

    @property
    def name(self) -> str:
        """What it is listed and called as."""
        ...

    @property
    def modes(self) -> frozenset[Mode]:
        """Where it is listed."""
        ...

    @property
    def hands_on(self) -> bool:
        """Whether it is nothing but another tool's call, which passes `Calls.call` and is recorded there."""
        ...

    def fragment(self, era: Era) -> bytes:
        """Its definition as `tools/list` has it."""
        ...

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """Its answer. `call.view` holds every name that the caller might use; admission is still to be asked."""
        ...


class OwnTools:
    """The tools, and the dispatch of every call at an endpoint that shows them. A `Calls` for those endpoints."""

    def __init__(
        self,
        tools: Iterable[OwnTool],
        calls: Calls,
        admission: Admission,
        limits: Limits,
        guardrails: Guardrails,
        audit: Audit,
        metrics: Metrics,
    ) -> None:
        self._tools: dict[tuple[Mode, str], OwnTool] = {
            (mode, tool.name): tool for tool in tools for mode in MODES if mode in tool.modes
        }
        self._calls = calls
        self._admission = admission
        self._limits = limits
        self._guardrails = guardrails
        self._audit = audit
        self._metrics = metrics

    def names(self, mode: Mode) -> frozenset[str]:
        """The names that are the hub's in a mode."""
        return frozenset(name for its, name in self._tools if its == mode)

    def fragments(self, mode: Mode, era: Era) -> list[bytes]:
        """The definitions to list in a mode."""
        return [tool.fragment(era) for (its, _), tool in self._tools.items() if its == mode]

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """One call of an own tool, or of whatever else the endpoint has."""
        tool = self._tools.get((call.view.mode, call.name)) if call.method == "tools/call" else None
        if tool is None:
            return await self._calls.call(call, emit)
        if tool.hands_on:
            return await tool.call(call, emit)
        began = perf_counter()
        with self._audit.recording(
            "tool:call", call.principal, server=OWN, target=tool.name, trace=call.trace
        ) as record:
            if not self._admission.calls(call.principal):
                raise Withheld(unknown("tool:call", tool.name).message, reason="denied: no scope for any call")
            taken = self._limits.on(call.snapshot, call.principal, _target(tool.name))
            if taken is None:
                outcome = await self._guarded(tool, call, emit)
            else:
                async with taken:
                    outcome = await self._guarded(tool, call, emit)
            record.outcome, record.detail = outcome.verdict, outcome.detail
        self._metrics.called(OWN, outcome.verdict, perf_counter() - began)
        return outcome

    async def _guarded(self, tool: OwnTool, call: Call, emit: Emit) -> Outcome:
        await self._guard_arguments(call)
        outcome = await tool.call(call, emit)
        body = await self._guardrails.run(_looked(Phase.RESULT, call, tool.name), outcome.body)
        return outcome if body is outcome.body else replace(outcome, body=body)

    async def _guard_arguments(self, call: Call) -> None:
        raw = call.params.get("arguments")
        if raw is not None:
            after = await self._guardrails.run(_looked(Phase.ARGUMENTS, call, call.name), bytes(raw))
            call.params["arguments"] = Raw(after)


def _target(name: str) -> Target:
    return Target(OWN, "tool", name, name, b"", "")


def _looked(phase: Phase, call: Call, name: str) -> Looked:
    return Looked(phase, call.principal, _SERVER, _target(name))


def arguments(call: Call) -> Fragments:
    """The arguments of a call, their values unread. Raises `InvalidParams` when they are no object."""
    try:
        return jsonrpc.fragments(call.params["arguments"]) if "arguments" in call.params else {}
    except jsonrpc.NotJson as error:
        raise InvalidParams("params.arguments must be an object") from error


def answered(call: Call, text: str, structured: dict[str, Any] | None = None) -> Outcome:
    """A tool's result: text for a model, and the same as data for a program."""
    return Outcome(200, jsonrpc.result(call.identifier, _result(call, text, structured, failed=False)), "ok")


def failed(call: Call, text: str, structured: dict[str, Any] | None = None) -> Outcome:
    """A result that tells the model what went wrong, so that it can do better."""
    return Outcome(200, jsonrpc.result(call.identifier, _result(call, text, structured, failed=True)), "tool-error")


def _result(call: Call, text: str, structured: dict[str, Any] | None, *, failed: bool) -> bytes:
    told: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    if structured is not None:
        told["structuredContent"] = structured
    if failed:
        told["isError"] = True
    if call.era == "modern":
        told["resultType"] = "complete"
    return orjson.dumps(told)
