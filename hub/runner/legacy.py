"""The legacy face of a stdio server: many HTTP sessions on one process that is initialized once.

Decides which session a message of the server belongs to. A question of the server goes to the oldest open call
whose client can answer it, and calls of other sessions wait until it is answered: stdio does not say whose it is.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Send

from hub.errors import TooMany, UpstreamDown
from hub.runner import jsonrpc
from hub.runner.exchange import Exchange, Outbox
from hub.runner.http import Gone, answer, send_answer, send_events, start_stream
from hub.runner.jsonrpc import Message
from hub.runner.pipe import Pipe
from hub.runner.replica import Replica
from hub.runner.sessions import LEVELS, Session
from hub.runner.spec import Bounds

INITIALIZE: Message = {
    "protocolVersion": jsonrpc.LEGACY[-1],
    "capabilities": {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {"listChanged": True}},
    "clientInfo": {"name": "entrepot-runner", "version": "1"},
}
"""What the process is told once: everything that any client may be able to do."""


@dataclass(frozen=True)
class Ask:
    """A question of the server that waits for a client's answer."""

    session: Session
    server_id: Any
    exchange: Exchange | None
    expiry: asyncio.TimerHandle


class LegacyPeer:
    """One replica of the server, in the legacy era, with the sessions that were given to it."""

    def __init__(self, replica: Callable[[Callable[[], Awaitable[Pipe]]], Replica[Pipe]],
                 opener: Callable[[], Awaitable[tuple[Pipe, Message]]], bounds: Bounds) -> None:  # fmt: skip
        self.sessions: dict[str, Session] = {}
        self._opener = opener
        self._bounds = bounds
        self._initialized: Message = {}
        self._asks: dict[int, Ask] = {}
        self._ask_ids = itertools.count(1)
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.replica = replica(self._open)

    async def initialize(self, message: Message, principal: str, send: Send) -> Session:
        """Open a session. Raises UpstreamDown when the process cannot be initialized."""
        async with self.replica.borrowed():
            capabilities = jsonrpc.member(jsonrpc.params_of(message), "capabilities")
            session = Session(principal, capabilities, Outbox(self._bounds.outbox))
            self.sessions[session.id] = session
            body = jsonrpc.result(message.get("id"), self._initialized)
        await answer(send, 200, body, [(b"mcp-session-id", session.id.encode())])
        return session

    async def serve(self, session: Session, message: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Relay one POST of a session. Raises UpstreamDown and TooMany before anything was sent."""
        session.last_used = time.monotonic()
        if "method" not in message:
            await self._take_answer(session, message, body)
            await answer(send, 202)
        elif "id" not in message:
            await self._take_notification(session, message)
            await answer(send, 202)
        else:
            await self._call(session, message, body, receive, send)

    async def stream(self, session: Session, receive: Receive, send: Send) -> None:
        """The GET stream: what belongs to no call."""
        session.streams += 1
        session.listening = True
        try:
            async with Gone(receive, session.outbox.wake) as gone:
                await start_stream(send)
                await send_events(send, session.outbox, gone, float("inf"))
        finally:
            session.streams -= 1
            session.listening = False
            session.last_used = time.monotonic()

    def end(self, session: Session) -> None:
        """Forget a session: its questions fail, its calls are cancelled, its subscriptions given back."""
        self.sessions.pop(session.id, None)
        session.outbox.close()
        for ask_id in [number for number, ask in self._asks.items() if ask.session is session]:
            self._withdraw(ask_id, "the client ended its session")
        pipe = self.replica.thing
        if pipe is None:
            return
        for exchange in [open_ for open_ in pipe.open.values() if open_.owner == session.id]:
            self._cancel(pipe, exchange, {"reason": "the client ended its session"})
        for uri in session.subscriptions - self._subscribed():
            self._tell(pipe, "resources/unsubscribe", {"uri": uri})

    def idle_sessions(self) -> list[Session]:
        """The sessions that have been unused for too long."""
        oldest = time.monotonic() - self._bounds.session_seconds
        return [session for session in self.sessions.values() if not session.streams and session.last_used < oldest]

    @property
    def needed(self) -> bool:
        """Whether the process must stay although no call is open."""
        return any(session.listening or session.subscriptions for session in self.sessions.values())

    def notified(self, pipe: Pipe, message: Message, line: bytes) -> None:
        """Lead a notification to the call or the sessions that it concerns."""
        params = jsonrpc.params_of(message)
        match message["method"]:
            case "notifications/cancelled":
                self._retract(params)
            case "notifications/resources/updated":
                concerned = [one for one in self.sessions.values() if one.subscribed(params.get("uri"))]
                self._publish(concerned or self.sessions.values(), line)
            case "notifications/message":
                self._publish_log(pipe, params.get("level"), line)
            case _:
                self._publish(self.sessions.values(), line)

    def asked(self, pipe: Pipe, message: Message) -> None:
        """Put a question of the server before the client that can answer it, or answer it here."""
        method, params = str(message["method"]), jsonrpc.params_of(message)
        if method == "ping":
            pipe.post(jsonrpc.result(message["id"], {}))
            return
        session, exchange = self._addressee(pipe, method, params)
        if session is None:
            pipe.post(unanswerable(message["id"], method))
            return
        number = next(self._ask_ids)
        expiry = asyncio.get_running_loop().call_later(
            self._bounds.ask_seconds, self._withdraw, number, "the client did not answer in time"
        )
        self._asks[number] = Ask(session, message["id"], exchange, expiry)
        self._quiet.clear()
        if exchange is not None:
            exchange.asks.add(number)
        outbox = exchange.outbox if exchange is not None else session.outbox
        outbox.put(jsonrpc.dumps(message | {"id": number}), must_arrive=True)

    def closed(self, pipe: Pipe) -> None:
        """The process is gone: so are its questions."""
        for number in list(self._asks):
            self._drop(number)

    def finished(self, exchange: Exchange) -> None:
        """A call has ended: the server waits for no answer to what it asked during it."""
        for number in list(exchange.asks):
            self._drop(number)

    async def _open(self) -> Pipe:
        pipe, self._initialized = await self._opener()
        pipe.listener = self
        await pipe.send(jsonrpc.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        if any(session.chose_level for session in self.sessions.values()):
            self._tell(pipe, "logging/setLevel", {"level": self._least_level()})
        for uri in self._subscribed():
            self._tell(pipe, "resources/subscribe", {"uri": uri})
        return pipe

    async def _call(self, session: Session, message: Message, body: bytes, receive: Receive, send: Send) -> None:
        await self._wait_for_quiet(session)
        params = jsonrpc.params_of(message)
        match message["method"]:
            case "logging/setLevel" if params.get("level") in LEVELS:
                session.level, session.chose_level = LEVELS.index(params["level"]), True
                message = jsonrpc.with_param(message, "level", self._least_level())
                body = jsonrpc.dumps(message)
            case "resources/subscribe" if isinstance(params.get("uri"), str):
                session.subscriptions.add(params["uri"])
            case "resources/unsubscribe" if isinstance(params.get("uri"), str):
                session.subscriptions.discard(params["uri"])
                if params["uri"] in self._subscribed():
                    await answer(send, 200, jsonrpc.result(message["id"], {}))
                    return
            case _:
                pass
        exchange = Exchange(message["id"], str(message["method"]), Outbox(self._bounds.outbox), session.id)
        session.streams += 1
        try:
            async with self.replica.borrowed() as pipe:
                await pipe.request(message, body, exchange)
                if not await send_answer(send, receive, exchange.outbox, self._bounds.answer_seconds):
                    self._abandon(pipe, exchange)
        finally:
            session.streams -= 1
            session.last_used = time.monotonic()

    def _abandon(self, pipe: Pipe, exchange: Exchange) -> None:
        # The call goes on, since leaving is not cancelling in this era, but nobody is there to be asked or told.
        exchange.outbox.close()
        for number in list(exchange.asks):
            self._withdraw(number, "the client is gone")
        asyncio.get_running_loop().call_later(self._bounds.answer_seconds, pipe.forget, exchange)

    async def _wait_for_quiet(self, session: Session) -> None:
        if all(ask.session is session for ask in self._asks.values()):
            return
        try:
            async with asyncio.timeout(self._bounds.hold_seconds):
                await self._quiet.wait()
        except TimeoutError:
            raise TooMany(
                f"server {self.replica.label!r} is asking another caller a question",
                hint="try again, or set the server's isolation to per-principal",
            ) from None

    async def _take_answer(self, session: Session, message: Message, body: bytes) -> None:
        number = message.get("id")
        ask = self._asks.get(number) if type(number) is int else None
        if ask is None or ask.session is not session or self.replica.thing is None:
            return
        pipe = self.replica.thing
        self._drop(number)  # pyright: ignore[reportArgumentType]
        await pipe.send(jsonrpc.with_id(body, message, ask.server_id))

    async def _take_notification(self, session: Session, message: Message) -> None:
        pipe = self.replica.thing
        if message["method"] == "notifications/initialized" or pipe is None:
            return  # the process was told long ago, or is not there to be told
        if message["method"] != "notifications/cancelled":
            await pipe.send(jsonrpc.dumps(message))
            return
        params = jsonrpc.params_of(message)
        for exchange in list(pipe.open.values()):
            if exchange.owner == session.id and jsonrpc.same(exchange.client_id, params.get("requestId")):
                self._cancel(pipe, exchange, params)

    def _cancel(self, pipe: Pipe, exchange: Exchange, params: Message) -> None:
        params = params | {"requestId": exchange.own_id}
        pipe.post(jsonrpc.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
        exchange.outbox.close(jsonrpc.error(exchange.client_id, jsonrpc.CANCELLED, "Request cancelled"))
        pipe.forget(exchange)

    def _addressee(self, pipe: Pipe, method: str, params: Message) -> tuple[Session | None, Exchange | None]:
        for exchange in pipe.open.values():  # oldest first
            session = self.sessions.get(exchange.owner)
            if session is not None and not exchange.outbox.closed and session.can(method, params):
                return session, exchange
        listening = [one for one in self.sessions.values() if one.listening and one.can(method, params)]
        return (listening[0], None) if len(listening) == 1 else (None, None)

    def _withdraw(self, number: int, why: str) -> None:
        ask = self._asks.get(number)
        self._drop(number)
        if ask is not None and self.replica.thing is not None:
            self.replica.thing.post(jsonrpc.error(ask.server_id, jsonrpc.INTERNAL, why))

    def _retract(self, params: Message) -> None:
        for number, ask in list(self._asks.items()):
            if jsonrpc.same(ask.server_id, params.get("requestId")):
                outbox = ask.exchange.outbox if ask.exchange is not None else ask.session.outbox
                notice = {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": params | {"requestId": number},
                }
                outbox.put(jsonrpc.dumps(notice))
                self._drop(number)

    def _drop(self, number: int) -> None:
        ask = self._asks.pop(number, None)
        if ask is None:
            return
        ask.expiry.cancel()
        if ask.exchange is not None:
            ask.exchange.asks.discard(number)
        if not self._asks:
            self._quiet.set()

    def _publish_log(self, pipe: Pipe, level: Any, line: bytes) -> None:
        if len(pipe.open) == 1:
            (exchange,) = pipe.open.values()
            session = self.sessions.get(exchange.owner)
            if session is None or session.wants(level):
                exchange.outbox.put(line)
            return
        self._publish([session for session in self.sessions.values() if session.wants(level)], line)

    def _publish(self, sessions: Any, line: bytes) -> None:
        for session in sessions:
            session.outbox.put(line)

    def _subscribed(self) -> set[str]:
        return {uri for session in self.sessions.values() for uri in session.subscriptions}

    def _least_level(self) -> str:
        chosen = [session.level for session in self.sessions.values() if session.chose_level]
        return LEVELS[min(chosen, default=0)]

    def _tell(self, pipe: Pipe, method: str, params: Message) -> None:
        # The answer, to an id that was never given out, is dropped as late.
        pipe.post(jsonrpc.dumps({"jsonrpc": "2.0", "id": f"runner-{method}", "method": method, "params": params}))


def unanswerable(request_id: Any, method: str) -> bytes:
    """The answer to a question that no client can be asked."""
    if method == "roots/list":
        return jsonrpc.result(request_id, {"roots": []})
    return jsonrpc.error(request_id, jsonrpc.METHOD_NOT_FOUND, f"no caller of this server can answer {method}")


def handshake_failed(name: str, response: Message) -> UpstreamDown:
    """The server answered `initialize`, but not with a result."""
    text = jsonrpc.member(response, "error").get("message", "no result")
    return UpstreamDown(f"server {name!r} refused to be initialized: {text}", hint="it may speak only 2026-07-28")
