"""The calls of a program: each an ordinary call of its caller, admitted, limited, guarded and recorded by `Calls`.

What a program hands over is only a name and arguments; who calls, what it is capable of and the trace are the run's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from msgspec import Raw
from pydantic_monty import ExternalModule

from hub.catalog.snapshot import Target
from hub.errors import BadRequest
from hub.gateway.calls import Call, Calls, Emit
from hub.gateway.code.namespace import Function, Namespace
from hub.gateway.code.program import Question, Request, Retry
from hub.gateway.code.sandbox import Modules
from hub.gateway.code.stubs import module_stub
from hub.gateway.code.values import ToolFailed, received, written
from hub.gateway.outgoing import mirrored
from hub.ids import new_id
from hub.policy.admission import Admission
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import META

LARGEST_ARGUMENTS = 2**20
"""Bytes of one call's arguments."""

TASKS = META + "tasks"

_KEY = re.compile(r"(\d+)\.(.*)", re.DOTALL)


@dataclass(slots=True)
class Calling:
    """Makes the calls of one run. `name` is the tool of the hub's own that the run is a call of."""

    call: Call
    calls: Calls
    admission: Admission
    namespace: Namespace
    emit: Emit
    name: str
    _number: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _run: str = field(default_factory=lambda: new_id("run-"))
    _begun: int = 0

    def modules(self, program: str) -> Modules:
        """What the program can import: for each server of which the caller may use anything, its functions."""
        allowed: dict[str, dict[str, Function]] = {}
        for target in self.admission.visible(self.call.principal, self._targets()):
            function = self.namespace.by_target[target.server, target.name]
            allowed.setdefault(function.module, {})[function.name] = function

        def module(name: str) -> ExternalModule:
            functions = allowed[name]
            meant = [one.signature for one in self.namespace.mentioned(name, program) if one.name in functions]
            return ExternalModule(dict.fromkeys(functions, _never), stubs=module_stub(meant))

        return {name: lambda name=name: module(name) for name in allowed}

    def _targets(self) -> tuple[Target, ...]:
        return tuple(one.target for one in self.namespace.by_target.values())

    def read(self, path: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Request:
        """A program's call. Raises `TypeError` for arguments that do not fit, `TooLarge` for too much."""
        function = self._function(path)
        arguments = function.signature.arguments(positional, named)
        return Request(path, written(arguments, LARGEST_ARGUMENTS))

    async def made(self, request: Request, retry: Retry | None) -> Any:
        """One call: the tool's value, or the questions that it asks first."""
        await self._progress(request)
        outcome = await self.calls.call(self._inner(request, retry), self.emit)
        message = jsonrpc.read(outcome.body)
        code, text = jsonrpc.failure(message)
        if code:
            raise ToolFailed(f"{text} (error {code})")
        result = jsonrpc.fragments(message.members["result"])
        if jsonrpc.same(result.get("resultType"), b'"input_required"'):
            asked = jsonrpc.fragments(result["inputRequests"]) if "inputRequests" in result else {}
            return Question(request, asked, result.get("requestState"))
        return received(result)

    def _inner(self, request: Request, retry: Retry | None) -> Call:
        target = self._function(request.path).target
        params: jsonrpc.Fragments = {
            "name": Raw(orjson.dumps(target.exposed)),
            "arguments": Raw(request.arguments),
            "_meta": Raw(orjson.dumps(self._meta())),
        }
        if retry is not None:
            params["inputResponses"] = Raw(jsonrpc.write(retry.answers))
            if retry.state is not None:
                params["requestState"] = retry.state
        return replace(
            self.call,
            identifier=orjson.dumps(f"{self._run}-{next(self._number)}"),
            params=params,
            meta=self._meta(),
            name=target.exposed,
            param_headers=dict(mirrored(target, params)),
            via=self.name,
        )

    def _meta(self) -> Mapping[str, Any]:
        """The run's own, without its progress, and without tasks: a program waits for values."""
        meta = {key: value for key, value in self.call.meta.items() if key != "progressToken"}
        capabilities = jsonrpc.mapping(meta.get(META + "clientCapabilities"))
        extensions = jsonrpc.mapping(capabilities.get("extensions"))
        if TASKS in extensions:
            kept = {key: value for key, value in extensions.items() if key != TASKS}
            meta[META + "clientCapabilities"] = capabilities | {"extensions": kept}
        return meta

    async def _progress(self, request: Request) -> None:
        """Tell whoever asked for progress of each call that begins."""
        self._begun += 1
        token = self.call.meta.get("progressToken")
        if token is not None:
            told = {"progressToken": token, "progress": self._begun, "message": request.path}
            params = {key: Raw(orjson.dumps(value)) for key, value in told.items()}
            await self.emit(jsonrpc.notification("notifications/progress", params))

    def owns(self, identifier: bytes) -> bool:
        """Whether a request's id is that of a call of this run."""
        return identifier.startswith(f'"{self._run}-'.encode())

    def _function(self, path: str) -> Function:
        module, _, name = path.rpartition(".")
        function = self.namespace.modules.get(module, {}).get(name)
        if function is None:
            raise TypeError(f"there is no function {path}")
        return function


def key_of(number: int, key: str) -> str:
    """A question's key towards the client: that of the tool, behind the number of its call."""
    return f"{number}.{key}"


def number_of(key: str) -> tuple[int, str]:
    """The number of the call and the tool's own key. Raises `BadRequest` for what is no key of ours."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise BadRequest("An answer has a key that was not asked for")
    return int(found[1]), found[2]


class Withdrawn(Exception):
    """A legacy client cancelled the run."""


@contextlib.asynccontextmanager
async def withdrawable(calling: Calling) -> AsyncGenerator[None]:
    """Within it a legacy client's cancellation ends the run and reaches the servers of its calls; `Withdrawn` then.

    A modern client cancels by leaving, which cancels the task that all of this runs in.
    """
    session, task = calling.call.session, asyncio.current_task()
    if session is None or task is None:
        yield
        return
    withdrawn = False

    def cancel(_notice: Message) -> None:
        nonlocal withdrawn
        if withdrawn:
            return
        withdrawn = True
        for identifier, cancel_call in list(session.running.items()):
            if calling.owns(identifier):
                notice = jsonrpc.notification("notifications/cancelled", {"requestId": identifier})
                cancel_call(jsonrpc.read(notice))
        task.cancel()

    session.running[calling.call.identifier] = cancel
    try:
        yield
    except asyncio.CancelledError:
        if not withdrawn or task.uncancel() > 0:
            raise
        raise Withdrawn from None
    finally:
        session.running.pop(calling.call.identifier, None)


def _never(*_: object, **__: object) -> None:
    """Stands for a function: a program's calls come as turns, never here."""
    raise AssertionError
