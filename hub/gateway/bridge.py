"""Takes an admitted call to its server: relayed where client and server share an era, translated where not.

A server that speaks both eras is spoken to in the client's (protocol section 2.3), so translation is for servers
that lack it. Across eras tools, prompts, resources and progress work; questions of a server to its client cross
in one direction (a modern server's `input_required` becomes requests on a legacy client's stream).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.snapshot import Server, Snapshot, Target
from hub.catalog.watcher import Changes
from hub.errors import HubError, InvalidParams, UpstreamError
from hub.gateway.bridged import BridgedSessions
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.outgoing import mirrored, param_headers, retargeted, set_caller
from hub.gateway.seals import Seals
from hub.gateway.sessions import own_headers
from hub.gateway.wire import RELAYED_STATUS
from hub.upstream import jsonrpc
from hub.upstream.connection import Incoming
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.modern_http import META, NAME_KEYS, ModernChannel, envelope
from hub.upstream.pool import Pool

MOST_ROUNDS = 10
"""Rounds of questions within one call; the reference client's limit."""

GRACE_SECONDS = 2.0
"""How long a server that was told of a cancellation may still answer; then the call ends without it."""

CANCELLED = -32800

CACHEABLE = {"resources/read"}
PROGRESS = "notifications/progress"
MODERN_ONLY = ("resultType", "ttlMs", "cacheScope")


class Bridge:
    """The relay behind `calls.Calls`. Owns the sessions with legacy servers that modern clients need."""

    def __init__(self, pool: Pool, seals: Seals, changes: Changes) -> None:
        self._pool = pool
        self._seals = seals
        self._changes = changes
        self._bridged = BridgedSessions(pool, asyncio.get_running_loop().time)
        self._counter = itertools.count(1)
        self._tasks: set[asyncio.Future[None]] = set()

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
        self._bridged.sweep(snapshot)

    async def _modern(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """Modern on both sides: a POST is isolated, so ids and progress tokens pass as they are."""
        params = retargeted(call, target)
        set_caller(params, call, server)
        if "requestState" in params:
            params["requestState"] = self._seals.unwrap("state", call.principal, server.name, params["requestState"])
        channel = ModernChannel(
            self._pool.upstream(server.name, server.address, server.digest),
            target.name if call.method in NAME_KEYS else None,
            param_headers(call, server),
        )

        async def on_message(message: Message) -> None:
            await emit(message.raw)

        body = jsonrpc.request(call.identifier, call.method, params)
        incoming = await channel.request(call.identifier, call.method, body, on_message)
        return self._modern_outcome(call, server, incoming)

    def _modern_outcome(self, call: Call, server: Server, incoming: Incoming) -> Outcome:
        failed = _failed(call.identifier, incoming)
        if failed is not None:
            return failed
        message = incoming.message
        result = _result(server, message)
        kind = result.get("resultType")
        verdict = "ok"
        if kind is not None and not jsonrpc.same(kind, b'"complete"'):
            verdict = str(jsonrpc.value(kind))
            sealed: dict[str, Any] = {}
            if "requestState" in result:
                sealed["requestState"] = self._seals.wrap("state", call.principal, server.name, result["requestState"])
            if "taskId" in result:
                sealed["taskId"] = self._seals.wrap("task", call.principal, server.name, result["taskId"])
            if sealed:
                return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result | sealed)), verdict)
        if jsonrpc.same(result.get("isError"), b"true"):
            verdict = "tool-error"
        return Outcome(200, message.raw, verdict)

    async def _legacy(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """Legacy on both sides: within this client's own session with the server."""
        session = call.session
        if session is None:
            raise InvalidParams("This request needs a session", hint="Send initialize first.")
        params = retargeted(call, target)
        set_caller(params, call, server)

        async def on_message(message: Message) -> None:
            if not message.is_request:
                if message.method == PROGRESS and not _is_progress(message, call.meta.get("progressToken")):
                    return
                if not self._changes.heard(server.name, message.method):
                    await emit(message.raw)
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
                self._later(upstream.notify(notice.raw))
            ending = asyncio.get_running_loop().call_later(GRACE_SECONDS, end)

        session.running[call.identifier] = cancel
        try:
            body = jsonrpc.request(call.identifier, call.method, params)
            incoming = await session.request(self._pool, server, call.identifier, call.method, body, on_message)
        except asyncio.CancelledError:
            # The hub's own end of the call, or somebody else's of this task.
            if not ended or task is None or task.uncancel() > 0:
                raise
            return _withdrawn(call)
        finally:
            session.running.pop(call.identifier, None)
            if ending is not None:
                ending.cancel()
        failed = _failed(call.identifier, incoming)
        if failed is not None:
            return failed
        result = _result(server, incoming.message)
        verdict = "tool-error" if jsonrpc.same(result.get("isError"), b"true") else "ok"
        return Outcome(200, incoming.message.raw, verdict)

    async def _down(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """A legacy client, a modern server: the hub speaks with its capabilities and asks it the questions."""
        session = call.session
        if session is None:
            raise InvalidParams("This request needs a session", hint="Send initialize first.")
        params = retargeted(call, target)
        capabilities = {key: value for key, value in session.capabilities.items() if key != "roots"}
        if "roots" in session.capabilities:
            capabilities["roots"] = {}
        meta = dict(call.meta) | envelope(capabilities, session.client)
        if session.log_level:
            meta[META + "logLevel"] = session.log_level
        params["_meta"] = Raw(jsonrpc.dumps(meta))
        set_caller(params, call, server)
        upstream = self._pool.upstream(server.name, server.address, server.digest)
        headers = (*mirrored(target, params), *own_headers(server, call.principal.subject))
        channel = ModernChannel(upstream, target.name if call.method in NAME_KEYS else None, headers)

        async def on_message(message: Message) -> None:
            await emit(message.raw)

        task = asyncio.current_task()
        cancelled = False

        def cancel(_notice: Message) -> None:
            nonlocal cancelled
            if not cancelled and task is not None:
                cancelled = True
                task.cancel()

        session.running[call.identifier] = cancel
        try:
            for _ in range(MOST_ROUNDS):
                body = jsonrpc.request(call.identifier, call.method, params)
                incoming = await channel.request(call.identifier, call.method, body, on_message)
                failed = _failed(call.identifier, incoming)
                if failed is not None:
                    return failed
                result = _result(server, incoming.message)
                if not jsonrpc.same(result.get("resultType"), b'"input_required"'):
                    return _legacy_form(call, result)
                asked = jsonrpc.fragments(result["inputRequests"]) if "inputRequests" in result else {}
                answers = {key: await self._ask(call, emit, raw) for key, raw in asked.items()}
                params["inputResponses"] = Raw(jsonrpc.write(answers))
                if "requestState" in result:
                    params["requestState"] = result["requestState"]
        except asyncio.CancelledError:
            if not cancelled or task is None or task.uncancel() > 0:
                raise
            return _withdrawn(call)
        finally:
            session.running.pop(call.identifier, None)
        raise UpstreamError(f"Server {server.name!r} asks without end")

    async def _ask(self, call: Call, emit: Emit, raw: Any) -> bytes:
        """One question of a modern server, put to a legacy client."""
        asked = jsonrpc.fragments(raw)
        method = str(jsonrpc.value(asked["method"]))
        params = jsonrpc.fragments(asked["params"]) if "params" in asked else {}
        if call.session is None:
            raise InvalidParams("This request needs a session")
        if jsonrpc.same(params.get("mode"), b'"url"') and "elicitationId" not in params:
            # Required by 2025-11-25, gone in 2026-07-28.
            params["elicitationId"] = Raw(orjson.dumps(f"hub-{next(self._counter)}"))
        response = await call.session.ask(emit, method, jsonrpc.write(params))
        raw_result = response.members.get("result")
        if raw_result is None:
            raise InvalidParams(f"The client did not answer {method}: {jsonrpc.failure(response)[1]}")
        return bytes(raw_result)

    async def _up(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """A modern client, a legacy server: over a session that the hub holds for this principal."""
        key = (server.name, server.digest, call.principal.subject)
        params = retargeted(call, target)
        identifier = b"%d" % next(self._counter)
        token = call.meta.get("progressToken")
        meta: dict[str, Any] = {
            name: value for name, value in call.meta.items() if not name.startswith(META) and name != "progressToken"
        }
        own_token = f"hub-{identifier.decode()}"
        if token is not None:
            # Requests of many clients share this session, so tokens need a space of their own.
            meta["progressToken"] = own_token
        params["_meta"] = Raw(jsonrpc.dumps(meta))
        set_caller(params, call, server)
        body = jsonrpc.request(identifier, call.method, params)

        async def on_message(message: Message) -> None:
            if message.is_request:
                session = self._bridged.get(key)
                if session is not None:
                    refused = jsonrpc.error(message.id, -32601, "The client behind this session cannot be asked")
                    # Not waited for: over HTTP+SSE this is the reader of the session's only stream.
                    self._later(session.notify(refused))
            elif message.method == PROGRESS:
                if token is None or not _is_progress(message, own_token):
                    return
                told = message.params() | {"progressToken": Raw(orjson.dumps(token))}
                await emit(jsonrpc.notification(message.method, told))
            else:
                self._changes.heard(server.name, message.method)

        try:
            incoming = await self._bridged.request(key, server, identifier, call.method, body, on_message)
        except asyncio.CancelledError:
            session = self._bridged.get(key)
            if session is not None:
                notice = {"requestId": identifier, "reason": b'"the client went away"'}
                self._later(session.notify(jsonrpc.notification("notifications/cancelled", notice)))
            raise
        failed = _failed(call.identifier, incoming)
        if failed is not None:
            return failed
        result = _result(server, incoming.message)
        verdict = "tool-error" if jsonrpc.same(result.get("isError"), b"true") else "ok"
        added: dict[str, Any] = {"resultType": b'"complete"'}
        if call.method in CACHEABLE:
            added |= {"ttlMs": b"0", "cacheScope": b'"private"'}
        return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result | added)), verdict)

    def _later(self, work: Any) -> None:
        """Tell a server something that nobody waits for."""
        task = asyncio.ensure_future(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the sessions held for modern clients, without waiting long."""
        await self._bridged.close()


async def _quietly(work: Any) -> None:
    try:
        await work
    except HubError:
        return


def _is_progress(message: Message, token: object) -> bool:
    """Whether a progress notification carries this token: where requests share a stream, others' come by too."""
    try:
        told = message.params().get("progressToken")
        return told is not None and token is not None and jsonrpc.value(told) == token
    except jsonrpc.NotJson:
        return False


def _withdrawn(call: Call) -> Outcome:
    """The end of a call that its client cancelled: it expects no answer, but its stream has to end."""
    return Outcome(200, jsonrpc.error(call.identifier, CANCELLED, "Request cancelled"), "cancelled")


def _failed(identifier: bytes, incoming: Incoming) -> Outcome | None:
    """An error that the server answered, under the client's id; None for a result."""
    if "error" not in incoming.message.members:
        return None
    code, _ = jsonrpc.failure(incoming.message)
    body = incoming.message.raw
    if incoming.message.id != identifier or code == -32002:
        error = jsonrpc.fragments(incoming.message.members["error"])
        if code == -32002:
            # "Resource not found" of older revisions; modern clients know -32602.
            error["code"] = Raw(b"-32602")
        body = b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, jsonrpc.write(error))
    return Outcome(RELAYED_STATUS.get(code, 200), body, f"error {code}")


def _result(server: Server, message: Message) -> Fragments:
    try:
        return jsonrpc.fragments(message.members["result"])
    except jsonrpc.NotJson as error:
        raise UpstreamError(f"Server {server.name!r} answered with a result that is not an object") from error


def _legacy_form(call: Call, result: Fragments) -> Outcome:
    """A modern result as 2025-11-25 knows it: without its new members, structured content only as an object."""
    kept: Mapping[str, Any] = {
        key: raw
        for key, raw in result.items()
        if key not in MODERN_ONLY and (key != "structuredContent" or bytes(raw).lstrip()[:1] == b"{")
    }
    verdict = "tool-error" if jsonrpc.same(result.get("isError"), b"true") else "ok"
    return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(dict(kept))), verdict)
