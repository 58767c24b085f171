"""The 2026-07-28 face of a stdio server: each POST is one request on one process that speaks the modern era.

The hub has validated envelope and headers; here requests are told apart, nothing is translated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.types import Receive, Send

from hub.errors import HubError
from hub.runner import jsonrpc
from hub.runner.exchange import Exchange, Outbox
from hub.runner.http import answer, send_answer
from hub.runner.jsonrpc import Message
from hub.runner.pipe import Pipe
from hub.runner.replica import Replica
from hub.runner.spec import Bounds

STATUS = {-32020: 400, -32021: 400, -32022: 400, jsonrpc.METHOD_NOT_FOUND: 404}
"""The JSON-RPC errors that have an HTTP status of their own; whatever else dispatch answers is 200."""

DISCOVER: Message = {
    "_meta": {
        jsonrpc.VERSION_KEY: jsonrpc.MODERN,
        jsonrpc.CAPABILITIES_KEY: {},
        jsonrpc.CLIENT_KEY: {"name": "entrepot-runner", "version": "1"},
    }
}
"""Params of the probe `server/discover`."""


def speaks_modern(response: Message) -> bool:
    """Whether the response to `server/discover` comes from a server of the modern era."""
    fault = jsonrpc.member(response, "error")
    if fault.get("code") == -32022:
        return jsonrpc.MODERN in jsonrpc.member(fault, "data").get("supported", ())
    return jsonrpc.MODERN in jsonrpc.member(response, "result").get("supportedVersions", ())


class ModernPeer:
    """One replica of the server, in the modern era."""

    def __init__(self, replica: Callable[[Callable[[], Awaitable[Pipe]]], Replica[Pipe]],
                 opener: Callable[[], Awaitable[Pipe]], bounds: Bounds) -> None:  # fmt: skip
        self._opener = opener
        self._bounds = bounds
        self.replica = replica(self._open)

    async def serve(self, message: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Relay one POST. Raises UpstreamDown and TooMany before anything was sent."""
        if "id" not in message:
            async with self.replica.borrowed() as pipe:
                await pipe.send(jsonrpc.dumps(message))
            await answer(send, 202)
            return
        exchange = Exchange(message["id"], str(message.get("method")), Outbox(self._bounds.outbox))
        exchange.log_level = jsonrpc.meta_of(message).get(jsonrpc.LOG_LEVEL_KEY)
        async with self.replica.borrowed() as pipe:
            await pipe.request(message, body, exchange)
            try:
                # Only a listen may be silent for ever: it ends with its client.
                silence = float("inf") if exchange.method == "subscriptions/listen" else self._bounds.answer_seconds
                await send_answer(with_status(send), receive, exchange.outbox, silence)
            finally:
                self._let_go(pipe, exchange)

    def notified(self, pipe: Pipe, message: Message, line: bytes) -> None:
        """Lead a notification to the listen or the call that it belongs to."""
        meta = jsonrpc.meta_of(message)
        if jsonrpc.SUBSCRIPTION_KEY in meta:
            exchange = self._opened(pipe, meta[jsonrpc.SUBSCRIPTION_KEY])
            if exchange is not None:
                changed = jsonrpc.with_meta(message, jsonrpc.SUBSCRIPTION_KEY, exchange.client_id)
                exchange.outbox.put(jsonrpc.dumps(changed))
        elif message["method"] == "notifications/cancelled":
            exchange = self._opened(pipe, jsonrpc.params_of(message).get("requestId"))
            if exchange is not None:  # stdio ends a listen so; a result may come first, then this finds nothing
                ending = {"resultType": "complete", "_meta": {jsonrpc.SUBSCRIPTION_KEY: exchange.client_id}}
                exchange.outbox.close(jsonrpc.result(exchange.client_id, ending))
                pipe.forget(exchange)
        elif message["method"] == "notifications/message":
            wanting = [exchange for exchange in pipe.open.values() if exchange.log_level is not None]
            if len(wanting) == 1:  # a line that could be anybody's is shown to nobody
                wanting[0].outbox.put(line)

    def asked(self, pipe: Pipe, message: Message) -> None:
        """Servers of this era do not ask; say so rather than let one wait."""
        pipe.post(jsonrpc.error(message["id"], jsonrpc.METHOD_NOT_FOUND, "servers send no requests in 2026-07-28"))

    def closed(self, pipe: Pipe) -> None:
        """Nothing is kept between calls."""

    def finished(self, exchange: Exchange) -> None:
        """Nothing is kept between calls."""

    async def _open(self) -> Pipe:
        pipe = await self._opener()
        pipe.listener = self
        return pipe

    def _opened(self, pipe: Pipe, own: Any) -> Exchange | None:
        return pipe.open.get(own) if type(own) is int else None

    def _let_go(self, pipe: Pipe, exchange: Exchange) -> None:
        if exchange.own_id not in pipe.open:
            return
        pipe.forget(exchange)
        params = {"requestId": exchange.own_id, "reason": "the caller closed the stream"}
        pipe.post(jsonrpc.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))


def with_status(send: Send) -> Send:
    """A `send` that gives a JSON error the HTTP status that the specification asks for."""
    held: list[Any] = []

    async def sending(event: Any) -> None:
        if event["type"] == "http.response.start" and (b"content-type", b"application/json") in event["headers"]:
            held.append(event)
            return
        if held:
            start = held.pop()
            await send(start | {"status": status_of(event["body"]) if start["status"] == 200 else start["status"]})
        await send(event)

    return sending


def status_of(body: bytes) -> int:
    """The HTTP status of a single JSON-RPC response."""
    if b'"error"' not in body[:60] and b'"error"' not in body[-4096:]:
        return 200
    return STATUS.get(jsonrpc.member(orjson.loads(body), "error").get("code", 0), 200)


async def refuse(send: Send, request_id: Any, fault: HubError) -> None:
    """Answer with a JSON-RPC error and its HTTP status: nothing reached the server."""
    await answer(send, fault.status, jsonrpc.refused(request_id, fault))
