"""The legacy eras (up to 2025-11-25): handshake, session, GET stream, DELETE.

The client's session is the hub's; towards each server it has one of its own, opened at first use with the client's
own handshake. A disconnect is not a cancellation here; a notification is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from starlette.types import Receive, Send

from hub.audit.recorder import Audit
from hub.catalog.publisher import Snapshots, Subscription
from hub.catalog.snapshot import View
from hub.catalog.watcher import Changes
from hub.errors import BadRequest, HubError, InvalidParams, NotFound
from hub.gateway.attempts import harmless
from hub.gateway.calls import VERBS, Call, Calls
from hub.gateway.eras import LEGACY, Head, UnknownMethod
from hub.gateway.fitting import Client
from hub.gateway.handles import Handshake
from hub.gateway.heartbeats import Heartbeats
from hub.gateway.listing import LISTS, Listing
from hub.gateway.modes import in_capabilities
from hub.gateway.own import OwnTools
from hub.gateway.sessions import LOG_LEVELS, Session, Sessions, UpstreamSession
from hub.gateway.sides import Sides
from hub.gateway.subscriptions import LIST_CHANGED
from hub.gateway.wire import STREAM_HEADERS, Reply, accepted, refusal, respond
from hub.identity.principal import Principal
from hub.telemetry import tracing
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.legacy_http import VERSIONS
from hub.upstream.pool import Pool
from hub.upstream.sse import KEEP_ALIVE, frame

FOLLOW_PAUSE = 2.0
"""Seconds before a server's stream that ended or broke is opened again."""


class LegacyFace:
    """Serves legacy POSTs, GET streams and DELETEs."""

    def __init__(
        self,
        snapshots: Snapshots,
        sides: Sides,
        listing: Listing,
        calls: Calls,
        own: OwnTools,
        sessions: Sessions,
        pool: Pool,
        audit: Audit,
        changes: Changes,
        beats: Heartbeats,
    ) -> None:
        self._snapshots = snapshots
        self._sides = sides
        self._listing = listing
        self._calls = calls
        self._own = own
        self._sessions = sessions
        self._pool = pool
        self._audit = audit
        self._changes = changes
        self._beats = beats

    async def serve(
        self, principal: Principal, key: str, head: Head, message: Message, _receive: Receive, send: Send
    ) -> None:
        """One POST."""
        try:
            if message.method == "initialize" and message.id is not None:
                await self._initialize(principal, key, head, message, send)
                return
            session = self._session(principal, key, head)
        except HubError as error:
            await respond(
                send, error.status if error.status in (400, 403, 404, 429) else 400, refusal(message.id, error)
            )
            return
        headers = [(b"mcp-session-id", session.id.encode())]
        if message.is_response:
            with contextlib.suppress(HubError):
                # Whether its server still takes the answer is no fault of the client's.
                await session.answered(message)
            await accepted(send, headers)
            return
        if message.id is None:
            await self._notified(session, message)
            await accepted(send, headers)
            return
        reply = self._beats.opened(Reply(send, headers))
        try:
            status, body = await self._answer(principal, key, head, session, message, message.id, reply.emit)
        except HubError as error:
            await reply.refuse(error.status if error.status in (403, 429) else 200, message.id, error)
        else:
            await reply.finish(status, body)
        finally:
            self._beats.closed(reply)

    async def stream(self, principal: Principal, key: str, head: Head, receive: Receive, send: Send) -> None:
        """The GET stream of a session: what belongs to no request."""
        try:
            session = self._session(principal, key, head)
            if session.listening:
                raise BadRequest("This session has a stream already", hint="Close the other one first.")
        except HubError as error:
            await respond(send, 409 if "already" in error.message else error.status, refusal(None, error))
            return
        headers = [*STREAM_HEADERS, (b"mcp-session-id", session.id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
        session.listening = True
        tasks = [
            asyncio.create_task(self._write(session, send)),
            asyncio.create_task(self._list_changes(self._snapshots.subscribe(), principal, session)),
            asyncio.create_task(self._follow(session)),
        ]
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            session.listening = False
            self._sessions.touch(session)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def delete(self, principal: Principal, key: str, head: Head, send: Send) -> None:
        """The client says good-bye."""
        try:
            self._sessions.drop(self._session(principal, key, head))
        except HubError as error:
            await respond(send, error.status, refusal(None, error))
            return
        await respond(send, 200, b"{}")

    def may_repeat(self, principal: Principal, key: str, head: Head, message: Message) -> bool:
        """Whether a request whose worker died under it may be answered here, from the start."""
        if message.method != "tools/call":
            return True
        session = self._session(principal, key, head)
        params = message.params()
        client = Client(head.client, session.client)
        view = self._listing.view(self._snapshots.current, key, principal, head.mode or session.mode, client)
        target = view.resolve("tool", _name(message.method, params))
        meta = jsonrpc.mapping(jsonrpc.value(params["_meta"])) if "_meta" in params else {}
        return target is not None and harmless(meta, target)

    def _session(self, principal: Principal, key: str, head: Head) -> Session:
        if head.session is None:
            raise BadRequest("The header Mcp-Session-Id is missing", hint="Send initialize first.")
        if head.version is not None and head.version not in LEGACY:
            raise BadRequest("The header MCP-Protocol-Version names no known revision")
        session = self._sessions.find(head.session.decode("latin-1"), principal.subject, key)
        if session is None:
            raise NotFound("Unknown session", hint="Send initialize again.")
        return session

    async def _initialize(self, principal: Principal, key: str, head: Head, message: Message, send: Send) -> None:
        raw = message.members.get("params")
        params = jsonrpc.mapping(jsonrpc.value(raw)) if raw is not None else {}
        asked = params.get("protocolVersion")
        if not isinstance(asked, str) or not isinstance(params.get("capabilities"), dict):
            raise InvalidParams("initialize needs protocolVersion and capabilities")
        version = asked if asked in VERSIONS else VERSIONS[0]
        snapshot = self._sides.snapshot(principal, jsonrpc.mapping(params.get("clientInfo")), head.raw)
        mode = head.mode or in_capabilities(params["capabilities"])
        client = Client(head.client, params.get("clientInfo"))
        view = self._listing.view(snapshot, key, principal, mode, client)
        with self._audit.recording("session:open", principal, target=key or "/"):
            handshake = jsonrpc.dumps(params | {"protocolVersion": version})
            session = self._sessions.create(Handshake(principal.subject, key, version, handshake, mode))
        result = self._listing.initialize(snapshot, view, version, principal)
        headers = [(b"mcp-session-id", session.id.encode())]
        await respond(send, 200, jsonrpc.result(message.id or b"null", result), headers)

    async def _answer(
        self,
        principal: Principal,
        key: str,
        head: Head,
        session: Session,
        message: Message,
        identifier: bytes,
        emit: Callable[[bytes], Awaitable[None]],
    ) -> tuple[int, bytes]:
        method = message.method
        if method == "ping":
            return 200, jsonrpc.result(identifier, b"{}")
        snapshot = self._sides.snapshot(principal, session.client, head.raw)
        client = Client(head.client, session.client)
        view = self._listing.view(snapshot, key, principal, head.mode or session.mode, client)
        try:
            params = message.params()
        except jsonrpc.NotJson as error:
            raise InvalidParams("params must be an object") from error
        if method in LISTS:
            cursor = jsonrpc.value(params["cursor"]) if "cursor" in params else None
            return 200, jsonrpc.result(
                identifier, self._listing.page(snapshot, view, "legacy", method, principal, cursor)
            )
        if method == "logging/setLevel":
            await self._set_level(session, params)
            return 200, jsonrpc.result(identifier, b"{}")
        if method not in VERBS:
            raise UnknownMethod(f"There is no method {method[:100]!r}")
        meta = jsonrpc.mapping(jsonrpc.value(params["_meta"])) if "_meta" in params else {}
        traceparent = meta.get("traceparent")
        call = Call(
            principal=principal,
            snapshot=snapshot,
            view=view,
            era="legacy",
            identifier=identifier,
            method=method,
            params=params,
            meta=meta,
            name=_name(method, params),
            trace=tracing.trace_id(traceparent if isinstance(traceparent, str) else None),
            session=session,
        )
        outcome = await (self._calls if view.mode == "all" else self._own).call(call, emit)
        return 200, outcome.body

    async def _set_level(self, session: Session, params: Fragments) -> None:
        level: Any = jsonrpc.value(params["level"]) if "level" in params else None
        if not isinstance(level, str) or level not in LOG_LEVELS:
            raise InvalidParams(f"level must be one of {', '.join(LOG_LEVELS)}")
        session.log_level = level
        body = b'{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":%b}}' % orjson.dumps(level)

        async def ignore(_message: Message) -> None:
            """Nothing is told before the answer to this."""

        for upstream in session.current(self._snapshots.current):
            with contextlib.suppress(HubError):
                await upstream.request(b'"level"', "logging/setLevel", body, ignore)

    async def _notified(self, session: Session, message: Message) -> None:
        if message.method == "notifications/cancelled":
            with contextlib.suppress(jsonrpc.NotJson):
                withdrawn = message.params().get("requestId")
                cancel = session.running.get(bytes(withdrawn)) if withdrawn is not None else None
                if cancel is not None:
                    cancel(message)
            return
        if message.method == "notifications/initialized":
            return
        for upstream in session.current(self._snapshots.current):
            with contextlib.suppress(HubError):
                await upstream.notify(message.raw)

    async def _write(self, session: Session, send: Send) -> None:
        while True:
            try:
                async with asyncio.timeout(self._beats.seconds):
                    message = frame(await session.waiting.get())
            except TimeoutError:
                message = KEEP_ALIVE
            await send({"type": "http.response.body", "body": message, "more_body": True})

    async def _list_changes(self, subscription: Subscription, principal: Principal, session: Session) -> None:
        async for change in subscription:
            view = self._snapshots.current.views.get(session.view_key)
            if view is None or not _concerns(view, change.servers):
                continue
            for name in sorted({LIST_CHANGED[kind] for kind in change.kinds}):
                session.tell(jsonrpc.notification(f"notifications/{name}/list_changed"))

    async def _follow(self, session: Session) -> None:
        """Hand on what every server of this session says on its own stream, also of those joined later."""
        followed: dict[UpstreamSession, asyncio.Task[None]] = {}
        try:
            while True:
                session.opened.clear()
                for gone in followed.keys() - set(session.upstreams.values()):
                    followed.pop(gone).cancel()
                for name, upstream in session.upstreams.items():
                    if upstream not in followed:
                        followed[upstream] = asyncio.create_task(self._hand_on(session, name, upstream))
                await session.opened.wait()
        finally:
            for task in followed.values():
                task.cancel()

    async def _hand_on(self, session: Session, server: str, upstream: UpstreamSession) -> None:
        async def on_message(message: Message) -> None:
            if message.is_request:
                session.tell(session.question(message, partial(_answer_back, upstream, message.id or b"null")))
            elif not self._changes.heard(server, message.method):
                session.tell(session.worded(server, message))

        while True:
            with contextlib.suppress(HubError):
                if not await upstream.listen(on_message):
                    return
            await asyncio.sleep(FOLLOW_PAUSE)


async def _answer_back(upstream: UpstreamSession, identifier: bytes, response: Message) -> None:
    """The client's answer to a server's question, under the id that the server gave it."""
    await upstream.notify(jsonrpc.write(response.members | {"id": identifier}))


def _concerns(view: View, servers: frozenset[str]) -> bool:
    return not view.key or bool(servers & set(view.servers))


def _name(method: str, params: Fragments) -> str:
    key = VERBS[method].key
    if key == "ref":
        reference = jsonrpc.mapping(jsonrpc.value(params["ref"])) if "ref" in params else {}
        return str(reference.get("name") or reference.get("uri") or "")
    name = jsonrpc.value(params[key]) if key in params else None
    if not isinstance(name, str):
        raise InvalidParams(f"params.{key} must be a string")
    return name
