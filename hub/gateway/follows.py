"""Follows single resources at servers for everybody who wants to hear of them: one stream a server, shared.

With a modern server that is a `subscriptions/listen` whose filter is all that is wanted; with a legacy one a session
of the hub's own, a `resources/subscribe` for each and its stream. A child of the runner's is followed once for each
principal, since it may have a process for each; what stands behind a URL cannot tell the hub's callers apart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from hub.background import kept
from hub.catalog.publisher import Snapshots
from hub.catalog.snapshot import Server
from hub.errors import HubError
from hub.gateway.questions import NONE, hello
from hub.gateway.sessions import UpstreamSession, open_session, own_headers
from hub.upstream import jsonrpc
from hub.upstream.connection import OnMessage
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import ModernChannel, envelope
from hub.upstream.pool import Pool

UPDATED = "notifications/resources/updated"
RETRY_SECONDS = 2.0
"""Before a stream that ended or broke is opened again."""

SETTLE_SECONDS = 3.0
"""How long whoever wants to follow a resource waits for its server to know; it is followed later all the same."""

GATHER_SECONDS = 0.02
"""Wishes that come together become one new stream."""

WITHOUT_STREAM_SECONDS = 60.0
"""Before a legacy server that has no stream for a session is tried again."""

Told = Callable[[str], None]
"""Hears the URI that was updated, in the server's words. Must not wait: the stream is shared."""

End = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Followed:
    """Resources that are followed now: what ends each, and a short wait until their server knows."""

    ends: Sequence[End]
    settled: Callable[[], Awaitable[None]]


class Follows:
    """All that is followed by this worker. Owns a task per server, for as long as anybody follows anything there."""

    def __init__(self, snapshots: Snapshots, pool: Pool) -> None:
        self._snapshots = snapshots
        self._pool = pool
        self._follows: dict[tuple[str, str, str], _Follow] = {}

    def __len__(self) -> int:
        return len(self._follows)

    def follow(self, server: Server, subject: str, wanted: Iterable[tuple[str, Told]]) -> Followed:
        """Have each resource's hearer told of its updates, until the end of it is called."""
        key = (server.name, server.place, subject if server.address.socket else "")
        follow = self._follows.get(key)
        if follow is None:
            follow = self._follows[key] = _Follow(self._snapshots, self._pool, server, subject)
        pairs = list(wanted)
        for name, told in pairs:
            follow.add(name, told)
        ends = [partial(self._end, key, follow, name, told) for name, told in pairs]
        return Followed(ends, partial(follow.settled, {name for name, _ in pairs}))

    def _end(self, key: tuple[str, str, str], follow: _Follow, name: str, told: Told) -> None:
        follow.remove(name, told)
        if not follow.wanted and self._follows.get(key) is follow:
            del self._follows[key]
            follow.task.cancel()

    async def close(self) -> None:
        """Stop following."""
        tasks = [follow.task for follow in self._follows.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Follow:
    """One server's stream. `wanted` says who hears of which resource, `known` what the server was told of."""

    def __init__(self, snapshots: Snapshots, pool: Pool, server: Server, subject: str) -> None:
        self._snapshots = snapshots
        self._pool = pool
        self._server = server
        self._subject = subject
        self.wanted: dict[str, list[Told]] = {}
        self._known: frozenset[str] = frozenset()
        self._attempts = 0
        self._changed = asyncio.Event()
        self._moved = asyncio.Event()
        self.task = asyncio.create_task(kept(f"following at {server.name}", self._run))

    def add(self, name: str, told: Told) -> None:
        """One more that wants to hear of a resource."""
        self.wanted.setdefault(name, []).append(told)
        self._changed.set()

    def remove(self, name: str, told: Told) -> None:
        """One less."""
        hearers = self.wanted.get(name, [])
        if told in hearers:
            hearers.remove(told)
        if not hearers:
            self.wanted.pop(name, None)
            self._changed.set()

    async def settled(self, names: set[str]) -> None:
        """Wait until the server knows of these, or cannot be told now; not for long."""
        attempts = self._attempts
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while not names <= self._known and attempts == self._attempts:
                    self._moved.clear()
                    await self._moved.wait()

    async def _run(self) -> None:
        while True:
            current, server = self._snapshots.current, self._server
            if not current.holds(server.name, server.digest):
                # Changed, or a version that is no longer tried out: what there is now under that name.
                server = current.servers.get(server.name)
            # Why it failed is shown by the server's health; here it only means to wait.
            with contextlib.suppress(HubError, jsonrpc.NotJson):
                if server is not None:
                    await (self._listen if "modern" in server.eras else self._subscribe)(server)
            self._is_known(frozenset())
            self._attempts += 1
            await asyncio.sleep(RETRY_SECONDS)

    def _is_known(self, names: frozenset[str]) -> None:
        self._known = names
        self._moved.set()

    async def _on_message(self, message: Message) -> None:
        if message.method != UPDATED:
            return
        uri = jsonrpc.value(message.params().get("uri", b'""'))
        if not isinstance(uri, str):
            return
        hearers = self.wanted.get(uri)
        if hearers is None:
            # What is followed may be told of by its parts.
            hearers = [told for name, all_ in self.wanted.items() if uri.startswith(name) for told in all_]
        for told in list(hearers):
            told(uri)

    async def _listen(self, server: Server) -> None:
        """A filter cannot be changed, so another one is another listen, acknowledged before the old one is closed."""
        current: asyncio.Task[None] | None = None
        try:
            while True:
                self._changed.clear()
                names = frozenset(self.wanted)
                acknowledged = asyncio.Event()
                fresh = asyncio.create_task(self._listen_to(server, names, acknowledged))
                before, current = current, fresh
                try:
                    await _first(fresh, acknowledged.wait(), SETTLE_SECONDS)
                finally:
                    if before is not None:
                        before.cancel()
                if not fresh.done():
                    self._is_known(names)
                    await _first(fresh, self._changed.wait(), None)
                if fresh.done():
                    return fresh.result()
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            if current is not None:
                current.cancel()
                await asyncio.gather(current, return_exceptions=True)

    async def _listen_to(self, server: Server, names: frozenset[str], acknowledged: asyncio.Event) -> None:
        upstream = self._pool.upstream(server.name, server.address, server.digest)
        wanted = {"resourceSubscriptions": sorted(names)}
        params = {"notifications": orjson.dumps(wanted), "_meta": orjson.dumps(envelope({}))}
        body = jsonrpc.request(b'"follow"', "subscriptions/listen", params)

        async def on_message(message: Message) -> None:
            acknowledged.set()
            await self._on_message(message)

        channel = ModernChannel(upstream, None, own_headers(server, self._subject), upstream.terms.listen_bounds)
        await channel.request(b'"follow"', "subscriptions/listen", body, on_message)

    async def _subscribe(self, server: Server) -> None:
        session = await open_session(self._pool, server, hello(NONE), self._on_message, self._subject)
        opened = asyncio.Event()
        stream = asyncio.create_task(session.listen(self._on_message, opened))
        try:
            # What is told before the stream is open may be lost.
            await _first(stream, opened.wait(), SETTLE_SECONDS)
            subscribed: frozenset[str] = frozenset()
            while not stream.done() or not stream.result():
                self._changed.clear()
                names = frozenset(self.wanted)
                for name in sorted(names - subscribed):
                    await _asked(session, "resources/subscribe", name, self._on_message)
                for name in sorted(subscribed - names):
                    await _asked(session, "resources/unsubscribe", name, self._on_message)
                subscribed = names
                self._is_known(names)
                if stream.done():
                    # It has no stream of its own; perhaps it tells on others, perhaps after its next start.
                    async with asyncio.timeout(WITHOUT_STREAM_SECONDS):
                        await self._changed.wait()
                else:
                    await _first(stream, self._changed.wait(), None)
        except TimeoutError:
            return
        finally:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)
            await asyncio.shield(session.close())


async def _asked(session: UpstreamSession, method: str, name: str, on_message: OnMessage) -> None:
    body = jsonrpc.request(b'"follow"', method, {"uri": orjson.dumps(name)})
    await session.request(b'"follow"', method, body, on_message)


async def _first(task: asyncio.Task[Any], other: Coroutine[Any, Any, Any], seconds: float | None) -> None:
    """Wait for either, for so long at most; the task goes on."""
    waiting = asyncio.create_task(other)
    try:
        await asyncio.wait({task, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
