"""The little of HTTP that the runner's ASGI faces share: bodies, JSON answers, event streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from hub.errors import HubError, TooLarge, UpstreamTimeout
from hub.runner.exchange import Outbox

Header = tuple[bytes, bytes]

KEEP_ALIVE_SECONDS = 15.0


class Disconnected(Exception):
    """The client went away before its request was read."""


def header(scope: Scope, name: bytes) -> str:
    """The value of a header without the whitespace around it; empty where there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1").strip(" \t")
    return ""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge and Disconnected."""
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Disconnected
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        if not event.get("more_body", False):
            return b"".join(parts)


async def answer(send: Send, status: int, body: bytes = b"", extra: Iterable[Header] = ()) -> None:
    """Send a whole answer of JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, value: Any) -> None:
    """Send any value as JSON."""
    await answer(send, status, orjson.dumps(value))


async def problem(send: Send, fault: HubError) -> None:
    """Send an error as an RFC 9457 problem."""
    body = {"title": fault.message, "status": fault.status, "detail": fault.message} | fault.envelope()
    await answer(send, fault.status, orjson.dumps(body))


async def start_stream(send: Send, extra: Iterable[Header] = ()) -> None:
    """Begin an event stream."""
    headers = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_event(send: Send, message: bytes) -> None:
    """One message of an event stream."""
    await send(
        {"type": "http.response.body", "body": b"event: message\r\ndata: %b\r\n\r\n" % message, "more_body": True}
    )


async def send_events(send: Send, outbox: Outbox, gone: Gone, silence: float) -> bool:
    """Send what comes until the box closes, the client leaves, or nothing came for `silence` seconds.

    True when the box was closed. The stream is ended unless the client left.
    """
    quiet = 0.0
    while not gone.happened and quiet < silence:
        try:
            message = await outbox.next(min(KEEP_ALIVE_SECONDS, silence - quiet))
        except TimeoutError:
            quiet += KEEP_ALIVE_SECONDS
            await send({"type": "http.response.body", "body": b": \r\n\r\n", "more_body": True})
            continue
        quiet = 0.0
        if message is not None:
            await send_event(send, message)
        if outbox.only_last:
            break
    if not gone.happened:
        await send({"type": "http.response.body", "body": b""})
    return outbox.only_last


class Gone:
    """Notices that the client left, while the answer is being made. Use as async context manager."""

    def __init__(self, receive: Receive, then: Callable[[], None]) -> None:
        self.happened = False
        self._receive = receive
        self._then = then
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Gone:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        self._then()


async def send_answer(
    send: Send, receive: Receive, outbox: Outbox, silence: float, extra: Iterable[Header] = ()
) -> bool:
    """Answer a POST from the box: as JSON when nothing precedes the response, else as an event stream.

    True when the response was sent; False when the client left or the server was silent for `silence` seconds.
    """
    async with Gone(receive, outbox.wake) as gone:
        try:
            first = await outbox.next(silence)
        except TimeoutError:
            await problem(send, UpstreamTimeout(f"the server was silent for {silence:.0f} s"))
            return False
        if first is None:
            return False
        if outbox.only_last:
            await answer(send, 200, first, extra)
            return True
        await start_stream(send, extra)
        await send_event(send, first)
        return await send_events(send, outbox, gone, silence)
