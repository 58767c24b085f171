"""Takes an admitted call to its server: relayed here where client and server share an era; where not, `upward.py`
and `downward.py` translate.

A server that speaks both eras is spoken to in the client's (protocol section 2.3), so translation is for servers
that lack it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Raw

from hub.catalog.snapshot import Server, Snapshot, Target
from hub.catalog.watcher import Changes
from hub.errors import InvalidParams, UpstreamError
from hub.gateway.answers import PROGRESS, failed, is_progress, result_of, verdict_of, withdrawn
from hub.gateway.bridged import BridgedSessions
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.downward import SUBSCRIBING, Downward
from hub.gateway.errands import Errands
from hub.gateway.follows import Follows
from hub.gateway.outgoing import param_headers, retargeted, set_caller
from hub.gateway.parks import Parks
from hub.gateway.seals import Seals
from hub.gateway.sessions import MOST_FOLLOWED, Session
from hub.gateway.upward import Upward
from hub.upstream import jsonrpc
from hub.upstream.connection import Incoming
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import NAME_KEYS, ModernChannel
from hub.upstream.pool import Pool

GRACE_SECONDS = 2.0
"""How long a server that was told of a cancellation may still answer; then the call ends without it."""


class Bridge:
    """The relay behind `calls.Calls`. Owns the sessions with legacy servers that modern clients need."""

    def __init__(self, pool: Pool, seals: Seals, changes: Changes, follows: Follows, worker: int = 0) -> None:
        self._pool = pool
        self._seals = seals
        self._changes = changes
        self._errands = Errands()
        self._sessions = BridgedSessions(pool, asyncio.get_running_loop().time)
        self.parks = Parks(seals, self._sessions, self._errands, worker)
        self._up = Upward(self._sessions, self.parks, changes, self._errands).send
        self._down = Downward(pool, follows).send

    async def send(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """The server's answer, in the client's era and under the client's id.

        Raises `UpstreamError` naming the server for an answer that is not of the protocol's form: what the client
        sent was read before.
        """
        era = server.era_for(call.era)
        try:
            if era == "modern":
                relay = self._modern if call.era == era else self._down
            else:
                relay = self._legacy if call.era == era else self._up
            return await relay(call, server, target, emit)
        except (jsonrpc.NotJson, KeyError) as error:
            raise UpstreamError(
                f"Server {server.name!r} answered with what is not of the protocol's form",
                hint="Its operator has to look at what it sends.",
            ) from error

    def sweep(self, snapshot: Snapshot) -> None:
        """End the sessions held for modern clients that are idle, or whose server was changed or removed."""
        self._sessions.sweep(snapshot)

    async def _modern(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """Modern on both sides: a POST is isolated, so ids and progress tokens pass as they are."""
        params = retargeted(call, target)
        set_caller(params, call, server)
        at = ""
        if "requestState" in params:
            sealed = params["requestState"]
            params["requestState"] = self._seals.unwrap("state", call.principal, server.name, sealed)
            at = self._seals.open("state", call.principal, sealed)[2]
        upstream = self._pool.upstream(server.name, server.address, server.digest, at)
        channel = ModernChannel(
            upstream,
            target.name if call.method in NAME_KEYS else None,
            param_headers(call, server),
        )

        async def on_message(message: Message) -> None:
            await emit(message.raw)

        body = jsonrpc.request(call.identifier, call.method, params)
        incoming = await channel.request(call.identifier, call.method, body, on_message)
        return self._modern_outcome(call, server, incoming, upstream.address.url if upstream.has_siblings else "")

    def _modern_outcome(self, call: Call, server: Server, incoming: Incoming, at: str) -> Outcome:
        failure = failed(call.identifier, incoming)
        if failure is not None:
            return failure
        message = incoming.message
        result = result_of(server, message)
        kind = result.get("resultType")
        if kind is not None and not jsonrpc.same(kind, b'"complete"'):
            verdict = str(jsonrpc.value(kind))
            sealed: dict[str, Any] = {}
            if "requestState" in result:
                sealed["requestState"] = self._sealed("state", call, server, result["requestState"], at)
            if "taskId" in result:
                sealed["taskId"] = self._sealed("task", call, server, result["taskId"], at)
            if sealed:
                return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result | sealed)), verdict)
            return Outcome(200, message.raw, verdict)
        return Outcome(200, message.raw, verdict_of(result))

    def _sealed(self, purpose: str, call: Call, server: Server, raw: Raw, at: str) -> bytes:
        """What a server keeps at one of its replicas, as its caller is given it."""
        return self._seals.wrap(purpose, call.principal, server.name, raw, at)

    async def _legacy(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """Legacy on both sides: within this client's own session with the server."""
        session = call.session
        if session is None:
            raise InvalidParams("This request needs a session", hint="Send initialize first.")
        params = retargeted(call, target)
        set_caller(params, call, server)

        async def on_message(message: Message) -> None:
            if not message.is_request:
                if message.method == PROGRESS and not is_progress(message, call.meta.get("progressToken")):
                    return
                if not self._changes.heard(server.name, message.method):
                    await emit(session.worded(server.name, message))
                return
            upstream = session.upstreams.get(server.name)

            async def answered(response: Message) -> None:
                if upstream is not None:
                    await upstream.notify(jsonrpc.write(response.members | {"id": message.id or b"null"}))

            await emit(session.question(message, answered))

        task = asyncio.current_task()
        ending: asyncio.TimerHandle | None = None
        ended = False

        def end() -> None:
            nonlocal ended
            if task is not None:
                ended = True
                task.cancel()

        def cancel(notice: Message) -> None:
            nonlocal ending
            if ending is not None:
                return
            upstream = session.upstreams.get(server.name)
            if upstream is not None:
                self._errands.send(upstream.notify(notice.raw))
            ending = asyncio.get_running_loop().call_later(GRACE_SECONDS, end)

        session.running[call.identifier] = cancel
        try:
            body = jsonrpc.request(call.identifier, call.method, params)
            incoming = await session.request(self._pool, server, call.identifier, call.method, body, on_message)
        except asyncio.CancelledError:
            # The hub's own end of the call, or somebody else's of this task.
            if not ended or task is None or task.uncancel() > 0:
                raise
            return withdrawn(call)
        finally:
            session.running.pop(call.identifier, None)
            if ending is not None:
                ending.cancel()
        failure = failed(call.identifier, incoming)
        if failure is not None:
            return failure
        result = result_of(server, incoming.message)
        if call.method in SUBSCRIBING:
            _remember(session, server, call, target)
        return Outcome(200, incoming.message.raw, verdict_of(result))

    async def close(self) -> None:
        """End the calls that rest and the sessions held for modern clients, without waiting long."""
        await self.parks.close()
        await self._errands.close()
        await self._sessions.close()


def _remember(session: Session, server: Server, call: Call, target: Target) -> None:
    """What a client follows in its session with a server, for when that session has to be opened anew."""
    followed = session.subscribed.setdefault(server.name, {})
    if call.method == "resources/unsubscribe":
        followed.pop(target.name, None)
    elif len(followed) < MOST_FOLLOWED:
        followed[target.name] = call.name
