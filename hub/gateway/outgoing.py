"""A call as its server is to get it: the name that the server gave the target, who calls, and what headers mirror.

Nothing of the caller's is taken over where it could speak for the hub.
"""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.snapshot import Server, Target
from hub.errors import InvalidParams
from hub.gateway.calls import Call
from hub.gateway.sessions import own_headers
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments
from hub.upstream.modern_http import header_value

CALLER = "dev.entrepot/caller"
"""The `_meta` key that tells a server of ours on whose behalf it is called; never taken from outside."""


def retargeted(call: Call, target: Target) -> Fragments:
    """The parameters under the server's own name for the target."""
    params = dict(call.params)
    key = "uri" if target.kind in ("resource", "template") else "name"
    if call.method == "completion/complete":
        reference = jsonrpc.fragments(params["ref"])
        if not jsonrpc.same(reference.get(key), orjson.dumps(target.name)):
            params["ref"] = Raw(jsonrpc.write(reference | {key: orjson.dumps(target.name)}))
    elif target.name != call.name:
        params[key] = Raw(orjson.dumps(target.name))
    return params


def set_caller(params: Fragments, call: Call, server: Server) -> None:
    """Tell a server of ours who calls; drop that key from what anyone else sent."""
    if not server.internal and CALLER not in call.meta:
        return
    meta = jsonrpc.mapping(jsonrpc.value(params["_meta"])) if "_meta" in params else {}
    outside = meta.pop(CALLER, None)
    if server.internal:
        principal = call.principal
        meta[CALLER] = {
            "subject": principal.subject,
            "name": principal.name,
            "kind": principal.kind,
            "scopes": sorted(principal.scopes),
            "on_behalf_of": principal.on_behalf_of,
            "trace": call.trace,
            # How deep a chain of agents is; only a run's own border may count it up.
            "depth": jsonrpc.mapping(outside).get("depth", 0) if principal.kind == "run" else 0,
        }
    params["_meta"] = Raw(jsonrpc.dumps(meta))


def param_headers(call: Call, server: Server) -> tuple[tuple[bytes, bytes], ...]:
    """Mirrored arguments travel on as they came; a runner's child learns whose call it is, for isolation."""
    return (*call.param_headers.items(), *own_headers(server, call.principal.subject))


def mirrored(target: Target, params: Fragments) -> tuple[tuple[bytes, bytes], ...]:
    """The `Mcp-Param-*` headers of a call that came without them (SEP-2243)."""
    if not target.param_headers or "arguments" not in params:
        return ()
    try:
        arguments = jsonrpc.value(params["arguments"])
    except jsonrpc.NotJson as error:
        raise InvalidParams("params.arguments cannot be read") from error
    headers: list[tuple[bytes, bytes]] = []
    for name, path in target.param_headers:
        found: Any = arguments
        for step in path:
            found = jsonrpc.mapping(found).get(step)
        if found is not None:
            headers.append((b"mcp-param-" + name.encode(), param_value(found)))
    return tuple(headers)


def param_value(found: object) -> bytes:
    """An argument as its mirroring header says it."""
    if isinstance(found, bool):
        return b"true" if found else b"false"
    return header_value(str(found))
