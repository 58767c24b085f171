"""The Tasks extension: which task a request is about, and whose it is. Ids are sealed for their principal.

A server's own task is asked of its server; one of the hub's (`own_tasks.py`) is answered from its record by any worker,
and changed by the worker that runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
from msgspec import Raw

from hub.audit.recorder import Audit
from hub.catalog.snapshot import Snapshot, View
from hub.errors import HubError, InvalidParams, UpstreamError
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.outgoing import set_caller
from hub.gateway.own import OWN
from hub.gateway.own_tasks import POLL_MILLISECONDS, TASKS, OwnTasks, declared, detailed
from hub.gateway.seals import Seals
from hub.gateway.sessions import own_headers
from hub.gateway.task_records import OPEN
from hub.gateway.wire import RELAYED_STATUS
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import ModernChannel
from hub.upstream.pool import Pool

METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})

MOST_FOLLOWED = 100
"""Tasks that one listen stream may follow."""

ACKNOWLEDGED = b'{"resultType":"complete"}'


@dataclass(frozen=True, slots=True)
class Tasks:
    """Answers what concerns a task."""

    pool: Pool
    seals: Seals
    audit: Audit
    own: OwnTasks

    async def send(self, call: Call, emit: Emit) -> Outcome:
        """One `tasks/*` request. Raises `InvalidParams` for a task that is not this principal's."""
        if not declared(call.meta):
            return _undeclared(call)
        sealed = call.params["taskId"]
        server, inner, at = self.seals.open("task", call.principal, sealed)
        if server == OWN:
            return await self._own(call, str(jsonrpc.value(inner)), str(jsonrpc.value(sealed)))
        with self.audit.recording("task:" + call.method[6:], call.principal, server=server, trace=call.trace) as record:
            outcome = await self._relayed(call, server, inner, at, emit)
            record.outcome = outcome.verdict
        return outcome

    async def _own(self, call: Call, identifier: str, sealed: str) -> Outcome:
        """Of a task of the hub's own. Raises `Elsewhere` for what another worker has to do."""
        task = await self.own.find(call, identifier, reading=call.method == "tasks/get")
        with self.audit.recording(
            "task:" + call.method[6:], call.principal, server=OWN, target=identifier, trace=call.trace
        ):
            if task is None:
                raise InvalidParams("Unknown task")
            if call.method == "tasks/get":
                body = detailed(task.row, sealed)
            else:
                body = ACKNOWLEDGED
                if call.method == "tasks/update":
                    self.own.update(task, call)
                else:
                    await self.own.cancel(task)
        return Outcome(200, jsonrpc.result(call.identifier, body), "ok")

    async def _relayed(self, call: Call, server_name: str, inner: bytes, at: str, emit: Emit) -> Outcome:
        server = call.snapshot.servers.get(server_name)
        if server is None or not _reachable(call.snapshot, call.view, server_name):
            raise InvalidParams("Unknown task")
        params = dict(call.params) | {"taskId": Raw(inner)}
        set_caller(params, call, server)
        upstream = self.pool.upstream(server.name, server.address, server.digest, at)
        body = jsonrpc.request(call.identifier, call.method, params)

        async def on_message(message: Message) -> None:
            await emit(message.raw)

        headers = own_headers(server, call.principal.subject)
        channel = ModernChannel(upstream, str(jsonrpc.value(inner)), headers)
        incoming = await channel.request(call.identifier, call.method, body, on_message)
        code, _ = jsonrpc.failure(incoming.message)
        if code or "result" not in incoming.message.members:
            return Outcome(RELAYED_STATUS.get(code, 200), incoming.message.raw, f"error {code}" if code else "ok")
        try:
            result: dict[str, Any] = dict(jsonrpc.fragments(incoming.message.members["result"]))
        except jsonrpc.NotJson as error:
            raise UpstreamError(f"Server {server_name!r} answered with a result that is not an object") from error
        if "taskId" in result:
            result["taskId"] = call.params["taskId"]
        return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result)), "ok")

    def followed(self, call: Call, asked: object) -> list[str]:
        """Those of the ids that a listen stream asks about that are this principal's tasks, as it wrote them."""
        if asked is None or not declared(call.meta):
            return []
        ids = cast("list[object]", asked) if isinstance(asked, list) else None
        if ids is None or len(ids) > MOST_FOLLOWED:
            raise InvalidParams(f"taskIds must be a list of at most {MOST_FOLLOWED} ids")
        return [one for one in ids if isinstance(one, str) and self._is_known(call, one)]

    def _is_known(self, call: Call, sealed: str) -> bool:
        try:
            server, _, _ = self.seals.open("task", call.principal, orjson.dumps(sealed))
        except InvalidParams:
            return False
        return server == OWN or _reachable(call.snapshot, call.view, server)

    async def tell(self, call: Call, sealed: str, tag: Raw, emit: Emit) -> None:
        """Tell of a task as it is now, and at every change, until it has ended or is gone."""
        server, inner, at = self.seals.open("task", call.principal, orjson.dumps(sealed))
        since: object = None
        while True:
            if server == OWN:
                row = await self.own.changed(str(jsonrpc.value(inner)), since)
                if row is None or row.subject != call.principal.acts_for:
                    return
                since, state = (row.status, row.updated), dict(jsonrpc.fragments(detailed(row, sealed)))
            else:
                state = await self._changed(call, server, inner, at, sealed, since)
                if state is None:
                    return
                since = _mark(state)
            state.pop("resultType", None)
            await emit(jsonrpc.notification("notifications/tasks", state | {"_meta": tag}))
            if jsonrpc.value(state["status"]) not in OPEN:
                return

    async def _changed(
        self, call: Call, server: str, inner: bytes, at: str, sealed: str, since: object
    ) -> dict[str, Raw] | None:
        """A server's task once it is another than it was; None when it cannot be asked any more."""
        asking = replace(
            call, method="tasks/get", identifier=b'"follow"', params=call.params | {"taskId": Raw(orjson.dumps(sealed))}
        )
        asking.params.pop("notifications", None)
        pause = POLL_MILLISECONDS / 1000
        while True:
            try:
                outcome = await self._relayed(asking, server, inner, at, _unheard)
                members = jsonrpc.read(outcome.body).members
                if "result" not in members:
                    return None
                state = jsonrpc.fragments(members["result"])
                if "status" not in state:
                    return None
                if _mark(state) != since:
                    return dict(state)
                told: Any = jsonrpc.value(state["pollIntervalMs"]) if "pollIntervalMs" in state else None
                pause = min(max(told / 1000, 0.2), 30.0) if isinstance(told, int | float) else pause
            except InvalidParams:
                return None
            except HubError:
                # The server is away for a moment; its task may not be.
                pause = min(pause * 2, 30.0)
            await asyncio.sleep(pause)


def _mark(state: Mapping[str, Raw]) -> tuple[bytes, bytes]:
    return bytes(state["status"]), bytes(state.get("lastUpdatedAt", b""))


def _undeclared(call: Call) -> Outcome:
    data: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    body = jsonrpc.error(call.identifier, -32021, f"This needs the client capability {TASKS}", data)
    return Outcome(400, body, "error -32021")


def _reachable(snapshot: Snapshot, view: View, server: str) -> bool:
    return server in view.servers and "modern" in snapshot.servers[server].eras


async def _unheard(_message: bytes) -> None:
    """Nothing comes before the answer to this that anybody could be told."""
