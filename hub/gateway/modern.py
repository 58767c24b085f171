"""The modern era (2026-07-28): one POST, one request, one answer. Nothing is remembered between them.

The caller's disconnect is its cancellation: what is being done for it stops, also at the server.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Send

from hub.errors import HubError, InvalidParams
from hub.gateway import eras
from hub.gateway.calls import VERBS, Call, Calls, Outcome
from hub.gateway.departures import Departures
from hub.gateway.eras import Head, Modern
from hub.gateway.fitting import Client
from hub.gateway.heartbeats import Heartbeats
from hub.gateway.listing import LISTS, Listing
from hub.gateway.modes import in_capabilities
from hub.gateway.own import OwnTools
from hub.gateway.parks import Elsewhere, Parks
from hub.gateway.sides import Sides
from hub.gateway.subscriptions import Subscriptions
from hub.gateway.tasks import METHODS as TASK_METHODS
from hub.gateway.tasks import Tasks
from hub.gateway.wire import Reply, accepted, ladder_status, refusal, respond
from hub.identity.principal import Principal
from hub.telemetry import tracing
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import META


class ModernFace:
    """Serves modern POSTs."""

    def __init__(
        self,
        sides: Sides,
        listing: Listing,
        calls: Calls,
        own: OwnTools,
        subscriptions: Subscriptions,
        tasks: Tasks,
        parks: Parks,
        beats: Heartbeats,
    ) -> None:
        self._sides = sides
        self._listing = listing
        self._calls = calls
        self._own = own
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._parks = parks
        self._beats = beats
        self._departures = Departures()

    async def serve(
        self, principal: Principal, key: str, head: Head, message: Message, receive: Receive, send: Send
    ) -> None:
        """Climb, dispatch, answer. Raises `Elsewhere`, before anything was sent, for another worker's request."""
        try:
            request = eras.climb(head, message)
            if message.is_response or message.id is None:
                # This revision has no client notification over HTTP; one that comes is taken and has no effect.
                await accepted(send)
                return
        except HubError as error:
            await respond(send, ladder_status(error), refusal(message.id, error))
            return
        reply = self._beats.opened(Reply(send))
        try:
            work = self._dispatch(principal, key, head, message, request, reply)
            await self._departures.during(work, receive)
        finally:
            self._beats.closed(reply)

    async def _dispatch(
        self, principal: Principal, key: str, head: Head, message: Message, request: Modern, reply: Reply
    ) -> None:
        identifier = message.id or b"null"
        try:
            status, body = await self._answer(principal, key, head, message, request, reply)
        except (eras.UnknownMethod, eras.HeaderMismatch) as error:
            status, body = ladder_status(error), refusal(identifier, error)
        except HubError as error:
            await reply.refuse(error.status if error.status in (401, 403, 429) else 200, identifier, error)
            return
        await reply.finish(status, body)

    async def _answer(
        self, principal: Principal, key: str, head: Head, message: Message, request: Modern, reply: Reply
    ) -> tuple[int, bytes]:
        if "requestState" in request.params:
            owner = self._parks.owner(jsonrpc.value(request.params["requestState"]))
            if owner is not None:
                raise Elsewhere(owner)
        client = request.meta.get(META + "clientInfo")
        snapshot = self._sides.snapshot(principal, jsonrpc.mapping(client), head.raw)
        asked = head.mode or in_capabilities(request.meta.get(META + "clientCapabilities"))
        client = Client(head.client, request.meta.get(META + "clientInfo"))
        view = self._listing.view(snapshot, key, principal, asked, client)
        method, identifier = message.method, message.id or b"null"
        if method in VERBS or method in TASK_METHODS or method == LISTEN:
            if method in LEGACY_ONLY:
                raise _unknown(method)
            call = Call(
                principal=principal,
                snapshot=snapshot,
                view=view,
                era="modern",
                identifier=identifier,
                method=method,
                params=request.params,
                meta=request.meta,
                name=request.name,
                trace=tracing.trace_id(_text(request.meta.get("traceparent"))),
                param_headers=head.params,
            )
            outcome = await self._called(call, head, reply)
            return outcome.status, outcome.body
        if method in LISTS:
            cursor = jsonrpc.value(request.params["cursor"]) if "cursor" in request.params else None
            page = self._listing.page(snapshot, view, "modern", method, principal, cursor)
            return 200, jsonrpc.result(identifier, page)
        if method == "server/discover":
            return 200, jsonrpc.result(identifier, self._listing.discover(snapshot, view, principal))
        raise _unknown(method)

    async def _called(self, call: Call, head: Head, reply: Reply) -> Outcome:
        """What names a target or a task, or goes on until its caller leaves."""
        if call.method == LISTEN:
            wanted = jsonrpc.value(call.params["notifications"]) if "notifications" in call.params else None
            if not isinstance(wanted, dict):
                raise InvalidParams("params.notifications must be an object")
            await self._subscriptions.listen(call, jsonrpc.mapping(wanted), reply.emit)  # pyright: ignore[reportUnknownArgumentType] - any JSON object
            return Outcome(200, b"", "ok")
        if call.method in TASK_METHODS:
            return await self._tasks.send(call, reply.emit)
        make = (self._calls if call.view.mode == "all" else self._own).call
        if call.method != "tools/call":
            return await make(call, reply.emit)
        target = call.view.resolve("tool", call.name)
        if target is not None:
            eras.check_param_headers(head, target.param_headers, call.params)
        return await self._tasks.own.call(call, target, make, reply.emit)


LISTEN = "subscriptions/listen"
LEGACY_ONLY = frozenset({"resources/subscribe", "resources/unsubscribe"})


def _unknown(method: str) -> eras.UnknownMethod:
    return eras.UnknownMethod(f"There is no method {method[:100]!r}")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
