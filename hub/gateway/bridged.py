"""Sessions with legacy servers that the hub holds for modern clients: one per server, registration, principal and
set of abilities, since a server is told at the handshake what its client can be asked.

Nobody says when such a session is no longer needed, so it ends when it was idle for a while, or when the
registration it was opened for is gone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import orjson

from hub.catalog.snapshot import Server, Snapshot
from hub.errors import TooMany, UpstreamError
from hub.gateway.questions import Abilities, hello
from hub.gateway.sessions import LOG_LEVELS, UpstreamSession, open_session
from hub.upstream.connection import OnMessage
from hub.upstream.jsonrpc import Message
from hub.upstream.pool import Pool

MOST_BRIDGED = 2000
"""Sessions held at once; the least used idle one goes first."""

MOST_BESIDE = 256
"""Sessions of one principal with one server where a session carries one call at a time."""

IDLE_SECONDS = 300.0
"""A handshake costs two round trips, a forgotten session a server's memory; every run of an agent leaves one."""

Key = tuple[str, str, str, Abilities, int]
"""Server, digest of its registration, subject, abilities, and a number where one session is not enough."""


class Held:
    """One session, and who uses it."""

    def __init__(self, session: UpstreamSession, now: float) -> None:
        self.session = session
        self.used = now
        self.running = 0
        """Requests under way, those that wait for answers of their clients included."""
        self._level = len(LOG_LEVELS)

    async def log_from(self, level: int) -> None:
        """Have the server log from this level on at least: a session's level is the least that any call asked for."""
        if level >= self._level:
            return
        before, self._level = self._level, level
        body = b'{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":%b}}'
        try:
            await self.session.request(b'"level"', "logging/setLevel", body % orjson.dumps(LOG_LEVELS[level]), _unheard)
        except UpstreamError:
            self._level = before
            raise


class BridgedSessions:
    """Opens, lends and ends them. Owned by the bridge."""

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._opening: dict[Key, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    async def lend(self, server: Server, subject: str, able: Abilities, on_message: OnMessage) -> Held:
        """The session of a principal with a server, counted as in use until `give_back`."""
        key: Key = (server.name, server.digest, subject, able, 0)
        if server.address.transport == "sse" or (able and server.address.socket):
            # What comes over one stream, or from a child's stdout, does not say which of a session's calls asks.
            key = self._unused(key)
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
        else:
            held = await self._open(key, server, on_message)
        held.running += 1
        return held

    def give_back(self, held: Held) -> None:
        """One use of it is over."""
        held.running -= 1
        held.used = self._clock()

    def lose(self, held: Held) -> None:
        """The server forgot it: the next call opens another."""
        for key in [key for key, known in self._held.items() if known is held]:
            del self._held[key]
            self._end(held)

    def _unused(self, key: Key) -> Key:
        for number in range(MOST_BESIDE):
            beside = (*key[:4], number)
            held = self._held.get(beside)
            lock = self._opening.get(beside)
            if (held is None or not held.running) and (lock is None or not lock.locked()):
                return beside
        raise TooMany(f"Server {key[0]!r} is busy with {MOST_BESIDE} calls of yours", hint="Wait for some to end.")

    async def _open(self, key: Key, server: Server, on_message: OnMessage) -> Held:
        async with self._opening.setdefault(key, asyncio.Lock()):
            known = self._held.get(key)
            if known is None:
                session = await open_session(self._pool, server, hello(key[3]), on_message, key[2])
                known = self._held[key] = Held(session, self._clock())
                self._make_room(key)
            return known

    def _make_room(self, fresh: Key) -> None:
        if len(self._held) <= MOST_BRIDGED:
            return
        idle = next((key for key, held in self._held.items() if not held.running and key != fresh), None)
        if idle is not None:
            self._end(self._held.pop(idle))

    def sweep(self, snapshot: Snapshot) -> None:
        """End what was idle for too long, and what belongs to a registration that is no more."""
        oldest = self._clock() - IDLE_SECONDS
        for key, held in list(self._held.items()):
            if not held.running and (held.used < oldest or not snapshot.holds(key[0], key[1])):
                del self._held[key]
                self._end(held)
        for key, lock in list(self._opening.items()):
            if not lock.locked():
                del self._opening[key]

    def _end(self, held: Held) -> None:
        task = asyncio.create_task(_ended(held.session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End all of them, without waiting long."""
        for held in self._held.values():
            self._end(held)
        self._held.clear()
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=5)
            for task in late:
                task.cancel()


async def _ended(session: UpstreamSession) -> None:
    try:
        await session.close()
    except UpstreamError:
        return


async def _unheard(_message: Message) -> None:
    """Nothing is told before the answer to a request of the hub's own."""
