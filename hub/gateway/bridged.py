"""Sessions with legacy servers that the hub holds for modern clients: one per server, registration and principal.

Nobody says when such a session is no longer needed, so it ends when it was idle for a while, or when the
registration it was opened for is gone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from hub.catalog.snapshot import Server, Snapshot
from hub.errors import UpstreamError
from hub.gateway.sessions import UpstreamSession, open_session
from hub.upstream.connection import Incoming, OnMessage
from hub.upstream.legacy_http import VERSIONS, SessionLost
from hub.upstream.pool import Pool

MOST_BRIDGED = 2000
"""Sessions held at once; the least used idle one goes first."""

IDLE_SECONDS = 300.0
"""A handshake costs two round trips, a forgotten session a server's memory; every run of an agent leaves one."""

HELLO = orjson.dumps(
    {
        "protocolVersion": VERSIONS[0],
        "capabilities": {},
        "clientInfo": {"name": "entrepot", "version": "0.1.0"},
    }
)

Key = tuple[str, str, str]
"""Server, digest of its registration, subject."""


@dataclass(slots=True)
class _Held:
    session: UpstreamSession
    used: float
    running: int = 0


class BridgedSessions:
    """Opens, lends and ends them. Owned by the bridge."""

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._held: OrderedDict[Key, _Held] = OrderedDict()
        self._opening: dict[Key, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> UpstreamSession | None:
        """The session under a key, if one is open."""
        held = self._held.get(key)
        return None if held is None else held.session

    async def request(
        self, key: Key, server: Server, identifier: bytes, method: str, body: bytes, on_message: OnMessage
    ) -> Incoming:
        """Ask within the session of `key`; one that the server forgot is opened anew, once."""
        held = await self._session(key, server, on_message)
        try:
            return await self._ask(held, identifier, method, body, on_message)
        except SessionLost:
            if self._held.get(key) is held:
                del self._held[key]
                self._end(held)
        held = await self._session(key, server, on_message)
        return await self._ask(held, identifier, method, body, on_message)

    async def _ask(self, held: _Held, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        held.running += 1
        try:
            return await held.session.request(identifier, method, body, on_message)
        finally:
            held.running -= 1
            held.used = self._clock()

    async def _session(self, key: Key, server: Server, on_message: OnMessage) -> _Held:
        known = self._held.get(key)
        if known is not None:
            self._held.move_to_end(key)
            return known
        async with self._opening.setdefault(key, asyncio.Lock()):
            known = self._held.get(key)
            if known is None:
                session = await open_session(self._pool, server, HELLO, on_message, key[2])
                known = self._held[key] = _Held(session, self._clock())
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
            server = snapshot.servers.get(key[0])
            if not held.running and (held.used < oldest or server is None or server.digest != key[1]):
                del self._held[key]
                self._end(held)
        for key, lock in list(self._opening.items()):
            if not lock.locked():
                del self._opening[key]

    def _end(self, held: _Held) -> None:
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
