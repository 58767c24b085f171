"""The Tasks extension through the hub: task ids are sealed for their principal, requests go to the task's server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from hub.audit.recorder import Audit
from hub.catalog.snapshot import Snapshot, View
from hub.errors import InvalidParams, UpstreamError
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.outgoing import set_caller
from hub.gateway.seals import Seals
from hub.gateway.sessions import own_headers
from hub.gateway.wire import RELAYED_STATUS
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import ModernChannel
from hub.upstream.pool import Pool

METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})


@dataclass(frozen=True, slots=True)
class Tasks:
    """Relays what concerns a task."""

    pool: Pool
    seals: Seals
    audit: Audit

    async def send(self, call: Call, emit: Emit) -> Outcome:
        """One `tasks/*` request. Raises `InvalidParams` for a task that is not this principal's."""
        with self.audit.recording("task:" + call.method[6:], call.principal, trace=call.trace) as record:
            sealed = call.params["taskId"]
            server_name, inner = self.seals.open("task", call.principal, sealed)
            server = call.snapshot.servers.get(server_name)
            if server is None or not _reachable(call.snapshot, call.view, server_name):
                raise InvalidParams("Unknown task")
            record.server = server_name
            params = dict(call.params) | {"taskId": Raw(inner)}
            set_caller(params, call, server)
            upstream = self.pool.upstream(server.name, server.address, server.digest)
            body = jsonrpc.request(call.identifier, call.method, params)

            async def on_message(message: Message) -> None:
                await emit(message.raw)

            headers = own_headers(server, call.principal.subject)
            channel = ModernChannel(upstream, str(jsonrpc.value(inner)), headers)
            incoming = await channel.request(call.identifier, call.method, body, on_message)
            code, _ = jsonrpc.failure(incoming.message)
            record.outcome = f"error {code}" if code else "ok"
        if code or "result" not in incoming.message.members:
            return Outcome(RELAYED_STATUS.get(code, 200), incoming.message.raw, record.outcome)
        try:
            result: dict[str, Any] = dict(jsonrpc.fragments(incoming.message.members["result"]))
        except jsonrpc.NotJson as error:
            raise UpstreamError(f"Server {server_name!r} answered with a result that is not an object") from error
        if "taskId" in result:
            result["taskId"] = sealed
        return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result)), "ok")


def _reachable(snapshot: Snapshot, view: View, server: str) -> bool:
    return server in view.servers and "modern" in snapshot.servers[server].eras
