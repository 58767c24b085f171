"""Bodies in, answers out: bounded reading, JSON or event stream, errors in JSON-RPC form."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import orjson
from starlette.types import Receive, Send

from hub.errors import BadRequest, HubError, TooLarge, TooMany
from hub.ids import new_id
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.sse import KEEP_ALIVE, frame

log = logging.getLogger(__name__)

JSON_TYPE = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]

LADDER_STATUS = {-32601: 404}
"""HTTP status of errors found before dispatch; every other one is 400."""

RELAYED_STATUS = {-32020: 400, -32021: 400, -32022: 400, -32601: 404}
"""HTTP status of errors that a server answered; every other one is 200 (some clients take any 4xx as the end)."""


LONGEST_ID = 1024
"""Bytes of an id; and digits of a numeric one, of which many readers take no more than some thousands."""


class ClientGone(Exception):
    """The caller closed the connection before its request was complete."""


class ParseError(BadRequest):
    """The body is not JSON (-32700)."""

    code, rpc = "not-json", -32700


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body. Raises `TooLarge` past `limit` bytes, `ClientGone` when the caller left."""
    event = await receive()
    if event["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = event.get("body", b"")
    if not event.get("more_body"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = [body], len(body)
    while event.get("more_body"):
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = event.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request is larger than {limit} bytes", hint="Send less, or raise max_body_bytes on the hub.")


def parse(body: bytes) -> Message:
    """The one message of a POST. Raises `ParseError` or `BadRequest`."""
    try:
        message = jsonrpc.read(body)
    except jsonrpc.NotJson as error:
        if body.lstrip()[:1] == b"[":
            raise BadRequest("One message a request: batches are not part of the protocol") from error
        raise ParseError("The body is not one JSON object in UTF-8") from error
    if not jsonrpc.same(message.members.get("jsonrpc"), b'"2.0"'):
        raise BadRequest('The member "jsonrpc" must be "2.0"')
    if message.id is not None and not _is_id(message.id):
        raise BadRequest(f"The id must be a string or an integer of at most {LONGEST_ID} bytes")
    if message.is_response and "result" not in message.members and "error" not in message.members:
        raise BadRequest("A message has a method, a result or an error")
    return message


def _is_id(raw: bytes) -> bool:
    return len(raw) <= LONGEST_ID and (raw[:1] == b'"' or raw.lstrip(b"-").isdigit())


def refusal(identifier: bytes | None, error: HubError) -> bytes:
    """An error of ours as a JSON-RPC answer; one that was not recorded gets a trace of its own."""
    error.trace = error.trace or new_id(bits=128)
    log.debug("refused: %s (%s)", error.reason, error.trace)
    data: dict[str, Any] = error.extra if error.rpc in (-32021, -32022) else error.envelope()
    return jsonrpc.error(identifier, error.rpc, error.message, data)


def ladder_status(error: HubError) -> int:
    """The HTTP status of an error found before dispatch."""
    return LADDER_STATUS.get(error.rpc, error.status if error.status in (401, 403, 413, 415, 429, 503) else 400)


class Reply:
    """The answer to one POST: JSON, or an event stream once something had to be told before the result."""

    __slots__ = ("_headers", "_send", "finished", "streaming", "told")

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._send = send
        self._headers = headers or []
        self.streaming = False
        self.finished = False
        self.told = 0.0
        """The loop's clock at the last sign of life."""

    async def emit(self, message: bytes) -> None:
        """Tell something before the result."""
        self.told = asyncio.get_running_loop().time()
        await self._start()
        await self._send({"type": "http.response.body", "body": frame(message), "more_body": True})

    async def refuse(self, status: int, identifier: bytes, error: HubError) -> None:
        """An error of ours, and the end; one that passes with time says when to come again."""
        if isinstance(error, TooMany):
            self._headers = [*self._headers, (b"retry-after", b"%d" % max(1, math.ceil(error.retry_after)))]
        await self.finish(status, refusal(identifier, error))

    async def beat(self, now: float) -> None:
        """Show that the answer is still being made, in a comment that clients skip."""
        if self.finished:
            return
        self.told = now
        await self._start()
        if not self.finished:
            await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    async def _start(self) -> None:
        if self.streaming:
            return
        self.streaming = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *self._headers]})

    async def finish(self, status: int, body: bytes) -> None:
        """The result, and the end."""
        self.finished = True
        if self.streaming:
            await self._send({"type": "http.response.body", "body": frame(body) if body else b"", "more_body": False})
            return
        await respond(self._send, status, body, self._headers)


async def respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """One whole JSON answer."""
    head = [JSON_TYPE, (b"content-length", b"%d" % len(body)), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def accepted(send: Send, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """202 without a body: what a notification gets."""
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0"), *(headers or [])]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def dumps(value: Any) -> bytes:
    """A value of ours as JSON."""
    return orjson.dumps(value)
