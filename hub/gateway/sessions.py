"""Sessions of legacy clients: what the handshake fixed, and the upstream sessions opened on its behalf.

A session belongs to one principal; for any other it does not exist. Clients seldom say good-bye, so idle ones
are dropped by age and by number, with their upstream sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson

from hub.catalog.publisher import Snapshots
from hub.catalog.snapshot import Mode, Server, Snapshot
from hub.errors import HubError, TooMany, Unavailable, UpstreamDown
from hub.gateway.handles import Handles, Handshake
from hub.upstream import jsonrpc
from hub.upstream.connection import Incoming, OnMessage
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import LegacySession, SessionLost
from hub.upstream.legacy_sse import SseSession
from hub.upstream.pool import Pool

IDLE_SECONDS = 1800.0
"""As the reference server: a client that was silent for half an hour starts anew."""

MOST_SESSIONS = 20_000
"""A session without upstreams costs about 3 KiB."""

MOST_OF_ONE = 1_000
"""Sessions of one principal: a client that never says good-bye must not take everybody's places."""

REST_SECONDS = 0.1
"""Between looks at a session that is to end and still has calls."""

SWEEP_SECONDS = 60.0
"""Between looks for sessions that nobody uses any more."""

ASK_SECONDS = 600.0
"""How long a person may take to answer a server's question."""

MOST_FOLLOWED = 1000
"""Resources that one session may follow at servers of each era."""

MOST_QUESTIONS = 100
"""Questions of servers open at once in one session; the oldest is forgotten."""

MOST_WAITING = 1000
"""Messages held for a client's GET stream before the oldest is dropped."""

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424, least first."""

UpstreamSession = LegacySession | SseSession


class Session:
    """One legacy client's session. `params` are those of its `initialize`, as JSON bytes."""

    def __init__(self, identifier: str, subject: str, view_key: str, version: str, params: bytes, now: float) -> None:
        self.id = identifier
        self.subject = subject
        self.view_key = view_key
        self.version = version
        self.params = params
        told = jsonrpc.mapping(jsonrpc.value(params))
        self.capabilities = jsonrpc.mapping(told.get("capabilities"))
        self.client = jsonrpc.mapping(told.get("clientInfo"))
        self.used = now
        self.log_level = ""
        self.mode: Mode | None = None
        """What the client asked for as it opened the session; the URL of a single request may ask for another."""
        self.upstreams: dict[str, UpstreamSession] = {}
        self.running: dict[bytes, Callable[[Message], None]] = {}
        """By the id of a request under way: what a cancellation of it does."""
        self.subscribed: dict[str, dict[str, str]] = {}
        """By server, the resources followed in the session with it, and what the client calls them; a session that is
        opened anew follows them too."""
        self.followed: dict[str, Callable[[], None]] = {}
        """By the URI as the client says it, what ends the following of a modern server's resource."""
        self.opened = asyncio.Event()
        """Set when an upstream session was opened or lost, for the GET stream that follows them all."""
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self.listening = False
        self._questions: dict[bytes, Callable[[Message], Any]] = {}
        self._asked = 0
        self._locks: dict[str, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def attached(self) -> bool:
        """Whether it has anything open at servers."""
        return bool(self.upstreams or self._closing or self.followed)

    @property
    def busy(self) -> bool:
        """Whether somebody waits for something on it."""
        return self.listening or bool(self.running)

    async def upstream(self, pool: Pool, server: Server, on_message: OnMessage) -> UpstreamSession:
        """This client's session with a server, opened at first use with the client's own handshake.

        One that was opened under another registration is given up: it leads to the old address.
        """
        known = self.upstreams.get(server.name)
        if known is not None and known.upstream.digest == server.digest:
            return known
        async with self._locks.setdefault(server.name, asyncio.Lock()):
            known = self.upstreams.get(server.name)
            if known is not None and known.upstream.digest == server.digest:
                return known
            if known is not None:
                self.retire(server.name, known)
            fresh = await open_session(pool, server, self.params, on_message, self.subject)
            self.upstreams[server.name] = fresh
            if self.log_level and "logging" in server.capabilities.get("legacy", {}):
                body = b'{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":%b}}'
                await fresh.request(b'"level"', "logging/setLevel", body % orjson.dumps(self.log_level), on_message)
            for uri in sorted(self.subscribed.get(server.name, ())):
                body = jsonrpc.request(b'"follow"', "resources/subscribe", {"uri": orjson.dumps(uri)})
                await fresh.request(b'"follow"', "resources/subscribe", body, on_message)
            self.opened.set()
            return fresh

    async def request(
        self, pool: Pool, server: Server, identifier: bytes, method: str, body: bytes, on_message: OnMessage
    ) -> Incoming:
        """Ask a server within this session; a session that the server forgot is opened anew, once."""
        upstream = await self.upstream(pool, server, on_message)
        try:
            return await upstream.request(identifier, method, body, on_message)
        except SessionLost:
            self.retire(server.name, upstream)
        except UpstreamDown:
            if upstream.upstream.has_siblings:
                # Its replica is gone, and what it knew with it: the next request opens another elsewhere.
                self.retire(server.name, upstream)
            raise
        upstream = await self.upstream(pool, server, on_message)
        return await upstream.request(identifier, method, body, on_message)

    def forget(self, server: str, lost: UpstreamSession) -> None:
        """An upstream session that is not to be used any more."""
        if self.upstreams.get(server) is lost:
            del self.upstreams[server]
            self.opened.set()

    def retire(self, server: str, old: UpstreamSession) -> None:
        """Forget an upstream session, and end it once its calls are over, without anybody waiting."""
        self.forget(server, old)
        task = asyncio.create_task(_ended(old))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def current(self, snapshot: Snapshot) -> list[UpstreamSession]:
        """The upstream sessions whose registration still holds."""
        return [session for name, session in self.upstreams.items() if _holds(snapshot, name, session)]

    def keep_current(self, snapshot: Snapshot) -> None:
        """Retire the upstream sessions whose server was changed or removed."""
        for name, session in list(self.upstreams.items()):
            if not _holds(snapshot, name, session):
                self.retire(name, session)

    def question(self, message: Message, answered: Callable[[Message], Any]) -> bytes:
        """A server's request as the client is to see it. `answered` gets the client's response, under that id."""
        identifier = message.id or b"null"
        if identifier in self._questions:
            # Two servers may count alike; to the client every question needs an id of its own.
            self._asked += 1
            identifier = b'"hub-%d"' % self._asked
        while len(self._questions) >= MOST_QUESTIONS:
            del self._questions[next(iter(self._questions))]
        self._questions[identifier] = answered
        return jsonrpc.write(message.members | {"id": identifier})

    async def ask(self, emit: Callable[[bytes], Any], method: str, params: bytes) -> Message:
        """A request of the hub's own to the client, and its response. Raises `Unavailable` when none comes."""
        self._asked += 1
        identifier = b'"hub-%d"' % self._asked
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def answered(message: Message) -> None:
            if not future.done():
                future.set_result(message)

        self._questions[identifier] = answered
        try:
            await emit(jsonrpc.request(identifier, method, jsonrpc.fragments(params)))
            async with asyncio.timeout(ASK_SECONDS):
                return await future
        except TimeoutError as error:
            raise Unavailable(f"The client did not answer {method}", hint="Call again and answer it.") from error
        finally:
            self._questions.pop(identifier, None)

    async def answered(self, message: Message) -> None:
        """A response that the client posted. One to nothing that was asked is dropped."""
        waiting = self._questions.pop(message.id or b"null", None)
        if waiting is None:
            return
        done = waiting(message)
        if done is not None:
            await done

    def worded(self, server: str, message: Message) -> bytes:
        """A server's notification as the client is to read it: a followed resource by the name that the client gave."""
        if message.method != "notifications/resources/updated":
            return message.raw
        params = message.params()
        uri = jsonrpc.value(params.get("uri", b'""'))
        exposed = self.subscribed.get(server, {}).get(uri, uri) if isinstance(uri, str) else uri
        if exposed == uri:
            return message.raw
        return jsonrpc.notification(message.method, {**params, "uri": orjson.dumps(exposed)})

    def tell(self, message: bytes) -> None:
        """Something for the GET stream; the oldest is dropped when nobody reads."""
        if self.waiting.full():
            self.waiting.get_nowait()
        self.waiting.put_nowait(message)

    async def close(self) -> None:
        """End the upstream sessions, and stop following."""
        for end in self.followed.values():
            end()
        self.followed.clear()
        upstreams, self.upstreams = list(self.upstreams.values()), {}
        await asyncio.gather(*(upstream.close() for upstream in upstreams), *self._closing, return_exceptions=True)


def _holds(snapshot: Snapshot, name: str, session: UpstreamSession) -> bool:
    return snapshot.holds(name, session.upstream.digest)


async def _ended(session: UpstreamSession) -> None:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(session.upstream.terms.deadlines.total):
                while session.running:
                    await asyncio.sleep(REST_SECONDS)
        await session.close()
    except HubError:
        return


def own_headers(server: Server, subject: str) -> tuple[tuple[bytes, bytes], ...]:
    """What goes with every request to a child of the runner's, and to nobody else: whose it is, for isolation."""
    return ((b"x-entrepot-principal", subject.encode()),) if server.address.socket else ()


async def open_session(
    pool: Pool, server: Server, params: bytes, on_message: OnMessage, subject: str
) -> UpstreamSession:
    """A handshake with a server over its transport."""
    upstream = pool.upstream(server.name, server.address, server.digest)
    transport = SseSession if server.address.transport == "sse" else LegacySession
    return await transport.open(upstream, params, on_message, own_headers(server, subject))


class Sessions:
    """The sessions of this worker, oldest use first."""

    def __init__(self, clock: Callable[[], float], handles: Handles | None = None) -> None:
        self._clock = clock
        self._handles = handles or Handles(None, 0)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._of: dict[str, OrderedDict[str, Session]] = {}
        """The same by subject."""
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self, handshake: Handshake) -> Session:
        """A session after a good handshake; where there is no place for it, the longest idle one goes.

        Raises `TooMany` when every place is taken by a busy one: the principal's own, then everybody's.
        """
        return self._placed(self._handles.make(handshake), handshake)

    def _placed(self, identifier: str, handshake: Handshake) -> Session:
        subject = handshake.subject
        own = self._of.get(subject, OrderedDict[str, Session]())
        for places, most in ((own, MOST_OF_ONE), (self._sessions, MOST_SESSIONS)):
            if len(places) >= most:
                idle = next((session for session in places.values() if not session.busy), None)
                if idle is None:
                    raise TooMany("Too many sessions are open", hint="Close sessions that are no longer used.")
                self._drop(idle)
        told = handshake
        session = Session(identifier, subject, told.view_key, told.version, told.params, self._clock())
        session.mode = told.mode
        self._sessions[session.id] = self._of.setdefault(subject, OrderedDict())[session.id] = session
        return session

    def find(self, identifier: str, subject: str, view_key: str) -> Session | None:
        """The session of this principal at this endpoint, or None: another's session does not exist for it."""
        session = self._sessions.get(identifier)
        if session is None:
            return self._taken_over(identifier, subject, view_key)
        if session.subject != subject or session.view_key != view_key:
            return None
        self.touch(session)
        return session

    def _taken_over(self, identifier: str, subject: str, view_key: str) -> Session | None:
        """A session that this worker does not know: one whose worker died, or that was idle for long, is remade."""
        handshake = self._handles.read(identifier)
        if handshake is None or (handshake.subject, handshake.view_key) != (subject, view_key):
            return None
        return self._placed(identifier, handshake)

    def touch(self, session: Session) -> None:
        """A session that is in use now."""
        if session.id in self._sessions:
            session.used = self._clock()
            self._sessions.move_to_end(session.id)
            self._of[session.subject].move_to_end(session.id)

    def sweep(self) -> None:
        """Drop sessions that were silent for too long."""
        oldest = self._clock() - IDLE_SECONDS
        for session in list(self._sessions.values()):
            if session.used > oldest:
                return
            if not session.busy:
                self._drop(session)

    async def sweep_forever(self, snapshots: Snapshots, *beside: Callable[[Snapshot], None]) -> None:
        """Every minute, drop what nobody uses and what a changed registration left behind; then do what is `beside`."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()
            for session in self._sessions.values():
                if not session.running:
                    session.keep_current(snapshots.current)
            for sweep in beside:
                sweep(snapshots.current)

    def drop(self, session: Session) -> None:
        """The client said good-bye."""
        self._handles.ended(session.id)
        self._drop(session)

    def _drop(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        own = self._of.get(session.subject)
        if own is not None:
            own.pop(session.id, None)
            if not own:
                del self._of[session.subject]
        if session.attached:
            task = asyncio.create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every session, without waiting long."""
        try:
            async with asyncio.timeout(5):
                await asyncio.gather(*(session.close() for session in self._sessions.values()), *self._closing)
        except (TimeoutError, HubError):
            return
        finally:
            self._sessions.clear()
            self._of.clear()
