"""The ASGI entry of `/mcp`, `/mcp/c/{collection}` and `/mcp/s/{server}`: size, type, JSON once, then an era.

Who calls is on the scope already. Whatever fails before dispatch is answered here, in JSON-RPC form.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send

from hub.errors import BadRequest, HubError, NotFound, OutcomeUnknown, Unauthenticated
from hub.gateway import eras
from hub.gateway.departures import Departures
from hub.gateway.eras import LEGACY, Head
from hub.gateway.fitting import client_in_query
from hub.gateway.forward import Forwarder, OwnerGone
from hub.gateway.legacy import LegacyFace
from hub.gateway.modern import ModernFace
from hub.gateway.modes import in_query
from hub.gateway.parks import Elsewhere, not_waiting
from hub.gateway.wire import ClientGone, ladder_status, parse, read_body, refusal, respond
from hub.identity.principal import Principal
from hub.ids import new_id
from hub.upstream import jsonrpc

log = logging.getLogger("hub.gateway")


class UnsupportedMedia(BadRequest):
    """The body is of a type that is not taken: a web page's form post must not run a tool (CVE-2026-33252)."""

    code, status = "unsupported-media-type", 415


class NotAcceptable(BadRequest):
    """The caller does not take what would be answered."""

    code, status = "not-acceptable", 406


class McpEndpoint:
    """An ASGI app for everything below `/mcp`."""

    def __init__(self, modern: ModernFace, legacy: LegacyFace, forwarder: Forwarder, max_body_bytes: int) -> None:
        self._modern = modern
        self._legacy = legacy
        self._forwarder = forwarder
        self._max_body_bytes = max_body_bytes
        self._departures = Departures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        answer = _Answer(send)
        try:
            await self._serve(scope, receive, answer)
        except ClientGone:
            return
        except HubError as error:
            if answer.started:
                return
            await respond(
                send, error.status if error.status in (404, 406, 415) else ladder_status(error), refusal(None, error)
            )
        except jsonrpc.NotJson as error:
            if answer.started:
                return
            await respond(send, 400, refusal(None, BadRequest(f"A part of the message is not JSON: {error}")))
        except Exception as error:
            # The last wall: a fault of ours is one caller's 500, never a dead worker.
            reference = new_id("err_")
            log.exception("unexpected error %s", reference)
            if answer.started:
                # An answer is under way: the server below closes the connection, which says that it broke off.
                return
            fault = HubError(
                f"The hub failed ({type(error).__name__})", hint=f"Its log has the cause under {reference}."
            )
            await respond(send, 500, refusal(None, fault))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = scope.get("principal")
        if not isinstance(principal, Principal):
            raise Unauthenticated("A token is needed", hint="Make one with `entrepot tokens create NAME`.")
        memo: dict[Any, Any] = scope.get("memo", {})
        if McpEndpoint not in memo:
            memo[McpEndpoint] = _addressed(scope)
        key, head = memo[McpEndpoint]
        method = scope["method"]
        if method == "POST":
            await self._post(scope, principal, key, head, receive, send)
        elif method in ("GET", "DELETE") and (head.version is None or head.version in LEGACY):
            if head.repeated:
                raise BadRequest(f"The header {head.repeated.decode('latin-1')} was sent more than once")
            owner = self._forwarder.owner(head.session)
            if owner is not None:
                try:
                    await self._forwarder.forward(owner, principal, scope, b"", receive, send)
                except OwnerGone:
                    # Taken over here, by what its id carries.
                    pass
                else:
                    return
            if method == "DELETE":
                await self._legacy.delete(principal, key, head, send)
            elif head.session is None:
                await _not_allowed(send)
            else:
                await self._legacy.stream(principal, key, head, receive, send)
        else:
            await _not_allowed(send)

    async def _post(
        self, scope: Scope, principal: Principal, key: str, head: Head, receive: Receive, send: Send
    ) -> None:
        if head.content_type.partition(b";")[0].strip().lower() != b"application/json":
            raise UnsupportedMedia("The body must be application/json")
        if not _accepts(head.accept):
            raise NotAcceptable("The Accept header must list application/json and text/event-stream")
        body = await read_body(receive, self._max_body_bytes)
        message = parse(body)
        modern = eras.classify(head, message) == "modern"
        owner = None if modern else self._forwarder.owner(head.session)
        if owner is not None:
            try:
                await self._forwarder.forward(owner, principal, scope, body, receive, send)
            except OwnerGone as gone:
                if gone.sent and not self._legacy.may_repeat(principal, key, head, message):
                    await respond(send, 200, refusal(message.id, _broke_off()))
                    return
            else:
                return
        face = self._modern if modern else self._legacy
        try:
            await face.serve(principal, key, head, message, receive, send)
        except Elsewhere as resting:
            # The retry of a call whose server waits for an answer, on the worker that holds the server's stream.
            try:
                handed = self._forwarder.forward(resting.worker, principal, scope, body, receive, send)
                await self._departures.during(handed, receive)
            except NotFound:
                await respond(send, 200, refusal(message.id, not_waiting()))


class _Answer:
    """`send`, and whether anything was sent."""

    __slots__ = ("_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    def __call__(self, event: ASGIMessage) -> Awaitable[None]:
        self.started = True
        return self._send(event)


def _addressed(scope: Scope) -> tuple[str, Head]:
    """The view that is asked for, and what the head says beside."""
    head = Head.of(scope["headers"])
    if scope["query_string"]:
        head.mode = in_query(scope["query_string"])
        head.client = client_in_query(scope["query_string"])
    return endpoint_key(scope["path"]), head


def _broke_off() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The worker of the hub that made this call was restarted under it",
        hint="It may have had its effect: check before you call again.",
    )


def endpoint_key(path: str) -> str:
    """The view that a path asks for: "", "c/NAME" or "s/NAME". Raises `NotFound` for any other."""
    rest = path.removeprefix("/mcp").strip("/")
    if not rest:
        return ""
    kind, _, name = rest.partition("/")
    if kind not in ("c", "s") or not name or "/" in name:
        raise NotFound("There is no such endpoint", hint="Try /mcp, /mcp/c/COLLECTION or /mcp/s/SERVER.")
    return f"{kind}/{name}"


def _accepts(accept: bytes) -> bool:
    if accept in (b"application/json, text/event-stream", b"*/*"):
        return True
    types = {part.partition(b";")[0].strip().lower() for part in accept.split(b",")}
    return b"*/*" in types or (
        bool(types & {b"application/json", b"application/*"}) and bool(types & {b"text/event-stream", b"text/*"})
    )


async def _not_allowed(send: Send) -> None:
    body = refusal(None, BadRequest("This endpoint takes POST", hint="Streams and DELETE belong to a legacy session."))
    await respond(send, 405, body, [(b"allow", b"POST")])
