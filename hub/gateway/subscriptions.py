"""`subscriptions/listen` (2026-07-28): one stream to the client, fed by the catalog and by the servers it asks about.

List changes come from the catalog, which refreshes itself before it tells; updates of single resources from the one
stream that the hub has to each server concerned (`follows.py`), whatever era that server speaks.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.publisher import Snapshots, Subscription
from hub.catalog.snapshot import Snapshot, View
from hub.errors import InvalidParams
from hub.gateway.calls import Call, Emit, resource
from hub.gateway.follows import UPDATED, Follows
from hub.gateway.listing import Listing
from hub.gateway.tasks import Tasks
from hub.identity.principal import Principal
from hub.policy.admission import Admission
from hub.upstream import jsonrpc
from hub.upstream.modern_http import META

MOST_RESOURCES = 1000
"""Resources that one stream may follow."""

MOST_WAITING = 10_000
"""Updates of parts of resources that wait for a slow client."""

FLAGS = {"toolsListChanged": "tools", "promptsListChanged": "prompts", "resourcesListChanged": "resources"}
LIST_CHANGED = {"tool": "tools", "prompt": "prompts", "resource": "resources", "template": "resources"}


class Subscriptions:
    """Serves listen streams."""

    def __init__(
        self, snapshots: Snapshots, listing: Listing, admission: Admission, follows: Follows, tasks: Tasks
    ) -> None:
        self._tasks = tasks
        self._snapshots = snapshots
        self._listing = listing
        self._admission = admission
        self._follows = follows

    async def listen(self, call: Call, wanted: dict[str, Any], emit: Emit) -> None:
        """Acknowledge what is honoured, then tell of changes until the caller's task is cancelled."""
        snapshot, view, principal, identifier = call.snapshot, call.view, call.principal, call.identifier
        capabilities = self._listing.capabilities(snapshot, view, "modern", principal)
        honoured: dict[str, Any] = {
            flag: True
            for flag, name in FLAGS.items()
            if wanted.get(flag) is True and jsonrpc.mapping(capabilities.get(name)).get("listChanged")
        }
        followed = self._followed(principal, snapshot, view, wanted)
        if followed:
            honoured["resourceSubscriptions"] = [uri for pairs in followed.values() for uri, _ in pairs]
        tasks = self._tasks.followed(call, wanted.get("taskIds"))
        if tasks:
            honoured["taskIds"] = tasks
        subscription = self._snapshots.subscribe()
        updates = _Updates()
        begun = [
            self._follows.follow(
                snapshot.servers[server],
                principal.subject,
                [(name, partial(updates.add, exposed, name)) for exposed, name in pairs],
            )
            for server, pairs in followed.items()
        ]
        tag = Raw(b'{"%bsubscriptionId":%b}' % (META.encode(), identifier))
        ack = {"notifications": orjson.dumps(honoured), "_meta": tag}
        try:
            await asyncio.gather(*(one.settled() for one in begun))
            await emit(jsonrpc.notification("notifications/subscriptions/acknowledged", ack))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._list_changes(subscription, view.key, honoured, tag, emit))
                if followed:
                    group.create_task(updates.write(tag, emit))
                for task in tasks:
                    group.create_task(self._tasks.tell(call, task, tag, emit))
        finally:
            for one in begun:
                for end in one.ends:
                    end()

    async def _list_changes(
        self, subscription: Subscription, key: str, honoured: dict[str, Any], tag: Raw, emit: Emit
    ) -> None:
        wanted = {name for flag, name in FLAGS.items() if flag in honoured}
        async for change in subscription:
            view = self._snapshots.current.views.get(key)
            if view is None or (key and not change.servers & set(view.servers)):
                continue
            for name in sorted({LIST_CHANGED[kind] for kind in change.kinds} & wanted):
                await emit(jsonrpc.notification(f"notifications/{name}/list_changed", {"_meta": tag}))

    def _followed(
        self, principal: Principal, snapshot: Snapshot, view: View, wanted: dict[str, Any]
    ) -> dict[str, list[tuple[str, str]]]:
        """Per server, the resources to follow: as the client names them, and as the server does."""
        asked: Any = wanted.get("resourceSubscriptions") or []
        if not isinstance(asked, list) or len(asked) > MOST_RESOURCES:  # pyright: ignore[reportUnknownArgumentType]
            raise InvalidParams(f"resourceSubscriptions must be a list of at most {MOST_RESOURCES} URIs")
        followed: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for uri in asked:  # pyright: ignore[reportUnknownVariableType]
            target = resource(snapshot, view, "modern", str(uri))  # pyright: ignore[reportUnknownArgumentType]
            if (
                target is None
                or not self._admission.decide(principal, "resource:read", target.server, target.name).allow
            ):
                continue
            server = snapshot.servers[target.server]
            if jsonrpc.mapping(server.facts("modern").get("resources")).get("subscribe"):
                followed[target.server].append((str(uri), target.name))  # pyright: ignore[reportUnknownArgumentType]
        return dict(followed)


class _Updates:
    """What was updated and not told yet. One that is updated again meanwhile is told once, so this is bounded."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._came = asyncio.Event()

    def add(self, exposed: str, name: str, uri: str) -> None:
        """An update of `name`, or of a part of it, which the client knows as `exposed`."""
        self._waiting[exposed + uri[len(name) :]] = None
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._came.set()

    async def write(self, tag: Raw, emit: Emit) -> None:
        """Tell of updates as they come."""
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                uri = next(iter(self._waiting))
                del self._waiting[uri]
                await emit(jsonrpc.notification(UPDATED, {"uri": orjson.dumps(uri), "_meta": tag}))
