"""Keeps the catalog fresh: listens to every server that promises to tell of changes, and refreshes before it tells.

One owner task per server. Only one worker of a hub watches; the others learn of a new snapshot from it. What a
server tells within a client's own session goes the same way, through `Changes`: a client that was told and asks must
not get the old list.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson

from hub.background import kept
from hub.catalog.publisher import Change, Snapshots, compared
from hub.catalog.snapshot import Kind, Server
from hub.errors import HubError
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import VERSIONS, LegacySession
from hub.upstream.modern_http import ModernChannel, envelope
from hub.upstream.pool import Pool
from hub.upstream.terms import LISTEN_SECONDS

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between attempts to listen: doubled while a server does not answer."""

KINDS: dict[str, frozenset[Kind]] = {
    "notifications/tools/list_changed": frozenset({"tool"}),
    "notifications/prompts/list_changed": frozenset({"prompt"}),
    "notifications/resources/list_changed": frozenset({"resource", "template"}),
}


LOOK_PAUSE = 0.5
"""Seconds between two looks at a server that tells of changes: a flood of them must not become a flood of looks."""


class Changes:
    """What servers tell of their lists: looked at first, told to clients then. `close` ends the looks."""

    def __init__(self, snapshots: Snapshots, refresh: Callable[[str], Awaitable[object]]) -> None:
        self._snapshots = snapshots
        self._refresh = refresh
        self._heard: dict[str, frozenset[Kind]] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    def heard(self, server: str, method: str) -> bool:
        """Take note when `method` tells of a change; many notes before a look share it. False for any other method."""
        kinds = KINDS.get(method)
        if kinds is None:
            return False
        self._heard[server] = self._heard.get(server, frozenset()) | kinds
        if server not in self._looks:
            self._looks[server] = asyncio.create_task(self._look(server))
        return True

    async def _look(self, server: str) -> None:
        try:
            while (kinds := self._heard.pop(server, None)) is not None:
                before = self._snapshots.current
                await self._refresh(server)
                if not kinds <= compared(before, self._snapshots.current).kinds:
                    # Clients are told also of a change that does not show in the lists, as the server told it.
                    self._snapshots.tell(Change(frozenset({server}), kinds))
                await asyncio.sleep(LOOK_PAUSE)
        finally:
            self._heard.pop(server, None)
            del self._looks[server]

    async def close(self) -> None:
        """Stop looking."""
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


class Watcher:
    """Watches all servers of the snapshot. `run` is its owner task."""

    def __init__(self, snapshots: Snapshots, pool: Pool, changes: Changes) -> None:
        self._snapshots = snapshots
        self._pool = pool
        self._changes = changes
        self._watched: dict[str, tuple[str, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Follow the snapshot's servers until cancelled."""
        subscription = self._snapshots.subscribe()
        try:
            async with asyncio.TaskGroup() as group:
                self._follow(group)
                async for _ in subscription:
                    self._follow(group)
        finally:
            self._watched.clear()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        current = self._snapshots.current
        # A version that is tried out is watched beside its server; whichever tells, both are looked at.
        servers = {**current.servers, **{one.server.place: one.server for one in current.canaries.values()}}
        for name, (digest, task) in list(self._watched.items()):
            if name not in servers or servers[name].digest != digest:
                task.cancel()
                del self._watched[name]
        for name, server in servers.items():
            if name not in self._watched and _tells(server):
                self._watched[name] = (server.digest, group.create_task(self._watch(server)))

    async def _watch(self, server: Server) -> None:
        """One server's watch. Whatever it answers, the other servers' watches go on."""
        await kept(f"watch of server {server.name}", partial(self._watch_one, server))

    async def _watch_one(self, server: Server) -> None:
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            # The reason is shown by the server's health; here it only means to wait.
            with contextlib.suppress(HubError):
                await self._listen(server)
            pause = FIRST_PAUSE if loop.time() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _listen(self, server: Server) -> None:
        upstream = self._pool.upstream(server.name, server.address, server.digest)

        async def on_message(message: Message) -> None:
            self._changes.heard(server.name, message.method)

        if "modern" in server.eras:
            wanted = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
            params = {"notifications": orjson.dumps(wanted), "_meta": orjson.dumps(envelope({}))}
            body = jsonrpc.request(b'"watch"', "subscriptions/listen", params)
            channel = ModernChannel(upstream, bounds=upstream.terms.listen_bounds)
            await channel.request(b'"watch"', "subscriptions/listen", body, on_message)
            return
        hello: dict[str, Any] = {
            "protocolVersion": VERSIONS[0],
            "capabilities": {},
            "clientInfo": {"name": "entrepot", "version": "0.1.0"},
        }
        session = await LegacySession.open(upstream, orjson.dumps(hello), on_message)
        try:
            if not await session.listen(on_message):
                await asyncio.sleep(LISTEN_SECONDS)
        finally:
            await asyncio.shield(session.close())


def _tells(server: Server) -> bool:
    """Whether a server promises list changes over a transport that can carry them."""
    if server.address.transport == "sse":
        return False
    era = "modern" if "modern" in server.eras else "legacy"
    capabilities = server.capabilities.get(era, {})
    return any(jsonrpc.mapping(capabilities.get(name)).get("listChanged") for name in ("tools", "prompts", "resources"))
