"""Hands a request to the worker that holds what it is about, over that worker's own socket.

The id of a legacy session and the state of a call at rest begin with their worker's number. Only the socket's 0700
folder is trusted: what comes over it carries the principal that the first worker authenticated.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.errors import HubError, NotFound, UpstreamDown
from hub.gateway.wire import respond
from hub.identity.principal import Principal
from hub.upstream.address import Address
from hub.upstream.http1 import Origin, Response
from hub.upstream.terms import Bounds

PRINCIPAL = b"x-entrepot-forwarded"
PASSED = frozenset({b"accept", b"content-type", b"mcp-protocol-version", b"mcp-session-id", b"mcp-method", b"mcp-name"})
RETURNED = frozenset({b"content-type", b"mcp-session-id", b"cache-control", b"x-accel-buffering", b"allow"})
PARAM = b"mcp-param-"
BOUNDS = Bounds(connect_seconds=2.0, answer_seconds=24 * 3600.0, answer_bytes=256 * 2**20)
"""The owner keeps the deadlines; here only its death matters."""


class OwnerGone(NotFound):
    """The worker that held what was asked for died; `sent` says whether it had the request by then."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("Unknown session", hint="Send initialize again.")
        self.sent = sent


class Forwarder:
    """Knows the other workers by number. One per worker; opened connections belong to it."""

    def __init__(self, run_dir: Path, worker: int) -> None:
        self._run_dir = run_dir
        self._worker = worker
        self._origins: dict[int, Origin] = {}

    def owner(self, session: bytes | None) -> int | None:
        """The other worker that holds a session; None when it is ours, or nobody's."""
        number, dot, _ = (session or b"").partition(b".")
        if not dot or not number.isdigit() or len(number) > 3 or int(number) == self._worker:
            return None
        return int(number)

    async def forward(
        self, owner: int, principal: Principal, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """The owner's answer. Raises `OwnerGone` when it died: what it held has to be taken over, or is lost."""
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name in PASSED or name.startswith(PARAM) or _may_choose(name)
        ]
        headers.append((PRINCIPAL, _written(principal)))
        try:
            origin = self._origin(owner)
            query: bytes = scope["query_string"]
            path = scope["raw_path"] + (b"?" + query if query else b"")
            response = await origin.exchange(scope["method"].encode(), path.decode("ascii"), headers, body, BOUNDS)
        except HubError as error:
            raise OwnerGone(sent=not isinstance(error, UpstreamDown)) from error
        kept = [(name, value) for name, value in response.headers.items() if name in RETURNED]
        if not response.streaming:
            await _whole(send, response, kept)
            return
        await send({"type": "http.response.start", "status": response.status, "headers": kept})
        await _stream(response, receive, send)

    def _origin(self, owner: int) -> Origin:
        known = self._origins.get(owner)
        if known is None:
            socket = self._run_dir / f"worker-{owner}.sock"
            known = self._origins[owner] = Origin(Address("http://worker/", str(socket)))
        return known

    def close(self) -> None:
        """Close the connections to the other workers."""
        for origin in self._origins.values():
            origin.close()


def taken_over(app: ASGIApp) -> ASGIApp:
    """Around the faces on a worker's own socket: the principal is the one that was sent along."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        written = [value for name, value in scope["headers"] if name == PRINCIPAL]
        try:
            # Exactly one: a second would be a caller's attempt to speak as somebody else.
            (only,) = written
            scope["principal"] = _read(only)
        except (ValueError, TypeError, binascii.Error):
            await respond(send, 400, b"{}")
            return
        await app(scope, receive, send)

    return serve


def _may_choose(name: bytes) -> bool:
    """Whether a header may choose a version of a server."""
    return name.startswith(b"x-") and not name.startswith(b"x-entrepot-")


async def _whole(send: Send, response: Response, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", b"%d" % len(response.body))
    await send({"type": "http.response.start", "status": response.status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


async def _stream(response: Response, receive: Receive, send: Send) -> None:
    async def pump() -> None:
        try:
            async for chunk in response.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except HubError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(pump()), asyncio.create_task(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        response.close()


def _written(principal: Principal) -> bytes:
    told = {
        "subject": principal.subject,
        "name": principal.name,
        "kind": principal.kind,
        "scopes": sorted(principal.scopes),
        "on_behalf_of": principal.on_behalf_of,
        "expires": principal.expires,
        "teams": sorted(principal.teams),
    }
    return base64.b64encode(orjson.dumps(told))


def _read(written: bytes) -> Principal:
    told = orjson.loads(base64.b64decode(written, validate=True))
    return Principal(**(told | {"scopes": frozenset(told["scopes"]), "teams": frozenset(told["teams"])}))
