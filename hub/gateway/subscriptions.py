"""`subscriptions/listen` (2026-07-28): one stream to the client, fed by the catalog and by the servers it asks about.

List changes come from the catalog, which refreshes itself before it tells; updates of single resources come from
a listen of the hub's own to each server concerned, held for as long as the client's stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.publisher import Snapshots, Subscription
from hub.catalog.snapshot import Snapshot, View
from hub.errors import HubError, InvalidParams
from hub.gateway.calls import Emit, resource
from hub.gateway.listing import Listing
from hub.gateway.sessions import own_headers
from hub.identity.principal import Principal
from hub.policy.admission import Admission
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Message
from hub.upstream.modern_http import META, ModernChannel, envelope
from hub.upstream.pool import Pool

MOST_RESOURCES = 1000
"""Resources that one stream may follow."""

RETRY_SECONDS = 2.0

FLAGS = {"toolsListChanged": "tools", "promptsListChanged": "prompts", "resourcesListChanged": "resources"}
LIST_CHANGED = {"tool": "tools", "prompt": "prompts", "resource": "resources", "template": "resources"}


class Subscriptions:
    """Serves listen streams."""

    def __init__(self, snapshots: Snapshots, listing: Listing, admission: Admission, pool: Pool) -> None:
        self._snapshots = snapshots
        self._listing = listing
        self._admission = admission
        self._pool = pool

    async def listen(
        self, principal: Principal, view: View, identifier: bytes, wanted: dict[str, Any], emit: Emit
    ) -> None:
        """Acknowledge what is honoured, then tell of changes until the caller's task is cancelled."""
        snapshot = self._snapshots.current
        capabilities = self._listing.capabilities(snapshot, view, "modern", principal)
        honoured: dict[str, Any] = {
            flag: True
            for flag, name in FLAGS.items()
            if wanted.get(flag) is True and jsonrpc.mapping(capabilities.get(name)).get("listChanged")
        }
        followed = self._followed(principal, snapshot, view, wanted)
        if followed:
            honoured["resourceSubscriptions"] = [uri for pairs in followed.values() for uri, _ in pairs]
        subscription = self._snapshots.subscribe()
        tag = Raw(b'{"%bsubscriptionId":%b}' % (META.encode(), identifier))
        ack = {"notifications": orjson.dumps(honoured), "_meta": tag}
        await emit(jsonrpc.notification("notifications/subscriptions/acknowledged", ack))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._list_changes(subscription, view.key, honoured, tag, emit))
            for server, pairs in followed.items():
                group.create_task(self._updates(principal, server, pairs, tag, emit))

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
            if "modern" in server.eras and jsonrpc.mapping(server.facts("modern").get("resources")).get("subscribe"):
                followed[target.server].append((str(uri), target.name))  # pyright: ignore[reportUnknownArgumentType]
        return dict(followed)

    async def _updates(
        self, principal: Principal, server_name: str, pairs: list[tuple[str, str]], tag: Raw, emit: Emit
    ) -> None:
        """Follow one server's resources; a broken stream is opened again."""
        exposed = {orjson.dumps(name): uri for uri, name in pairs}

        async def on_message(message: Message) -> None:
            if message.method != "notifications/resources/updated":
                return
            params = message.params()
            uri = exposed.get(bytes(params.get("uri", b"")))
            if uri is not None:
                await emit(jsonrpc.notification(message.method, params | {"uri": Raw(orjson.dumps(uri)), "_meta": tag}))

        wanted = {"resourceSubscriptions": [name for _, name in pairs]}
        while True:
            server = self._snapshots.current.servers.get(server_name)
            if server is None:
                return
            upstream = self._pool.upstream(server.name, server.address, server.digest)
            bounds = upstream.terms.listen_bounds
            params = {"notifications": orjson.dumps(wanted), "_meta": orjson.dumps(envelope({}))}
            body = jsonrpc.request(b'"follow"', "subscriptions/listen", params)
            channel = ModernChannel(upstream, None, own_headers(server, principal.subject), bounds)
            with contextlib.suppress(HubError):
                await channel.request(b'"follow"', "subscriptions/listen", body, on_message)
            await asyncio.sleep(RETRY_SECONDS)
