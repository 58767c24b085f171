"""The legacy face of a stdio server: many HTTP sessions on one process that is initialized once.

Decides which session a message of the server belongs to, since stdio does not say whose it is. A question belongs
to the only session with a call under way; where there are several, it waits until the others' calls are over, and
meanwhile none is begun. What could be anybody's is shown to nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
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


LIST_CHANGES = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))

ASKING = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""What a server may ask during; lists and the like it only answers."""

MOST_REMEMBERED = 1000
"""Tools known to ask, and addresses that callers were sent to."""


@dataclass(frozen=True)
class Unclear:
    """A question of which it is not known yet whose it is."""

    message: Message
    expiry: asyncio.TimerHandle


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
        self._unclear: list[Unclear] = []
        self._starting: dict[Exchange, None] = {}
        self._askers: dict[str, None] = {}
        """What has asked before: calls of it are made one session at a time, so that its questions are clear."""
        self._sent_to: dict[str, str] = {}
        """By elicitation id, the session that was sent to an address."""
        self._turn = asyncio.Event()
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
                self._publish([one for one in self.sessions.values() if one.subscribed(params.get("uri"))], line)
            case "notifications/message":
                self._publish_of(pipe, line, params.get("level"))
            case "notifications/elicitation/complete":
                session = self.sessions.get(self._sent_to.pop(str(params.get("elicitationId")), ""))
                self._publish([session] if session is not None else [], line)
            case method if method in LIST_CHANGES:
                self._publish(self.sessions.values(), line)
            case _:
                self._publish_of(pipe, line)

    def asked(self, pipe: Pipe, message: Message) -> None:
        """Put a question of the server before the client that can answer it, or answer it here."""
        method, params = str(message["method"]), jsonrpc.params_of(message)
        if method == "ping":
            pipe.post(jsonrpc.result(message["id"], {}))
            return
        owners = {exchange.owner for exchange in pipe.open.values() if exchange.method in ASKING}
        if len(owners) > 1:
            expiry = asyncio.get_running_loop().call_later(self._bounds.unclear_seconds, self._give_up, pipe, message)
            self._unclear.append(Unclear(message, expiry))
            return
        session, exchange = self._addressee(pipe, method, params)
        if session is None:
            pipe.post(unanswerable(message["id"], method))
            return
        if exchange is not None:
            self._learn(exchange)
        self._put(session, exchange, message)

    def _put(self, session: Session, exchange: Exchange | None, message: Message) -> None:
        number = next(self._ask_ids)
        expiry = asyncio.get_running_loop().call_later(
            self._bounds.ask_seconds, self._withdraw, number, "the client did not answer in time"
        )
        self._asks[number] = Ask(session, message["id"], exchange, expiry)
        if exchange is not None:
            exchange.asks.add(number)
        elicitation = jsonrpc.params_of(message).get("elicitationId")
        if elicitation is not None and len(self._sent_to) < MOST_REMEMBERED:
            self._sent_to[str(elicitation)] = session.id
        outbox = exchange.outbox if exchange is not None else session.outbox
        outbox.put(jsonrpc.dumps(message | {"id": number}), must_arrive=True)

    def _give_up(self, pipe: Pipe, message: Message) -> None:
        """Too many callers' calls go on for too long: the question is nobody's."""
        self._unclear = [one for one in self._unclear if one.message is not message]
        for exchange in pipe.open.values():
            self._learn(exchange)
        pipe.post(unanswerable(message["id"], str(message["method"]), "calls of several callers are under way"))
        self._turn.set()

    def _clear_up(self, pipe: Pipe) -> None:
        """A call is over: perhaps it is known now whose the waiting questions are."""
        waiting, self._unclear = self._unclear, []
        for one in waiting:
            one.expiry.cancel()
            self.asked(pipe, one.message)
        self._turn.set()

    def _learn(self, exchange: Exchange) -> None:
        if exchange.method in ASKING and len(self._askers) < MOST_REMEMBERED:
            self._askers[exchange.target] = None

    def closed(self, pipe: Pipe) -> None:
        """The process is gone: so are its questions."""
        for one in self._unclear:
            one.expiry.cancel()
        self._unclear.clear()
        for number in list(self._asks):
            self._drop(number)
        self._turn.set()

    def finished(self, exchange: Exchange) -> None:
        """A call has ended: the server waits for no answer to what it asked during it.

        With another call of the same session under way, the question may be that one's.
        """
        pipe = self.replica.thing
        others = [] if pipe is None else [one for one in pipe.open.values() if one.owner == exchange.owner]
        for number in list(exchange.asks):
            ask = self._asks.get(number)
            if ask is None or not others:
                self._drop(number)
                continue
            self._asks[number] = replace(ask, exchange=others[0])
            others[0].asks.add(number)
        if pipe is not None:
            self._clear_up(pipe)

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
        if exchange.method in ASKING:
            exchange.target = f"{exchange.method} {params.get('name') or params.get('uri')}"[:500]
            if not self._may_begin(exchange):
                await self._wait_for_turn(exchange)
        session.streams += 1
        self._starting[exchange] = None
        try:
            async with self.replica.borrowed() as pipe:
                await pipe.request(message, body, exchange)
                self._starting.pop(exchange, None)
                if not await send_answer(send, receive, exchange.outbox, self._bounds.answer_seconds):
                    self._abandon(pipe, exchange)
        finally:
            if self._starting.pop(exchange, "gone") is None:
                self._turn.set()
            session.streams -= 1
            session.last_used = time.monotonic()

    def _abandon(self, pipe: Pipe, exchange: Exchange) -> None:
        # The call goes on, since leaving is not cancelling in this era, but nobody is there to be asked or told.
        exchange.outbox.close()
        for number in list(exchange.asks):
            self._withdraw(number, "the client is gone")
        asyncio.get_running_loop().call_later(self._bounds.answer_seconds, pipe.forget, exchange)

    def _may_begin(self, exchange: Exchange) -> bool:
        """Whether a question that came now, or soon, could still be told apart."""
        if self._unclear:
            return False
        if self._asks and any(ask.session.id != exchange.owner for ask in self._asks.values()):
            return False
        if exchange.target not in self._askers:
            return True
        under_way = [*self._starting, *(self.replica.thing.open.values() if self.replica.thing is not None else ())]
        return all(one.owner == exchange.owner or one.target not in self._askers for one in under_way)

    async def _wait_for_turn(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self._bounds.hold_seconds):
                while not self._may_begin(exchange):
                    self._turn.clear()
                    await self._turn.wait()
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
        self._turn.set()

    def _publish_of(self, pipe: Pipe, line: bytes, level: Any = None) -> None:
        """What belongs to some call: to the only one, or to the only session that has any; else to nobody."""
        owners = {exchange.owner for exchange in pipe.open.values()} or set(self.sessions)
        if len(owners) != 1:
            return
        session = self.sessions.get(owners.pop())
        if session is None or not session.wants(level):
            return
        outbox = session.outbox
        if len(pipe.open) == 1:
            (exchange,) = pipe.open.values()
            outbox = exchange.outbox
        outbox.put(line)

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


def unanswerable(request_id: Any, method: str, why: str = "") -> bytes:
    """The answer to a question that no client can be asked."""
    if method == "roots/list":
        return jsonrpc.result(request_id, {"roots": []})
    why = why or f"no caller of this server can answer {method}"
    return jsonrpc.error(request_id, jsonrpc.METHOD_NOT_FOUND, why)


def handshake_failed(name: str, response: Message) -> UpstreamDown:
    """The server answered `initialize`, but not with a result."""
    text = jsonrpc.member(response, "error").get("message", "no result")
    return UpstreamDown(f"server {name!r} refused to be initialized: {text}", hint="it may speak only 2026-07-28")
