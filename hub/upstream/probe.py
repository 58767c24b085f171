"""Looks at a server once: which eras it speaks, what it says of itself, what it offers (protocol section 2.2).

An outage is an error, never an era verdict. A session that a probe opened, also by accident, is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from hub.errors import HubError, OutcomeUnknown, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.upstream import jsonrpc
from hub.upstream.address import Address, Era, Facts, Kind, Survey, Wanted
from hub.upstream.connection import Channel, ChildFailed, Upstream, answer
from hub.upstream.jsonrpc import Message
from hub.upstream.legacy_http import VERSIONS, LegacySession
from hub.upstream.legacy_sse import SseSession
from hub.upstream.modern_http import META, VERSION, ModernChannel, envelope
from hub.upstream.terms import Terms

LISTS: Mapping[Kind, tuple[str, str, str]] = {
    "tool": ("tools", "tools/list", "tools"),
    "prompt": ("prompts", "prompts/list", "prompts"),
    "resource": ("resources", "resources/list", "resources"),
    "template": ("resources", "resources/templates/list", "resourceTemplates"),
}
"""By kind: the capability that promises it, the method that lists it, the member that holds it."""

MOST_DEFINITIONS = 10_000
"""Of one kind, from one server. Beyond it the rest is left out and named as a problem."""

MOST_PAGES = 1_000

HUB_INFO = {"name": "entrepot", "version": "0.1.0"}

LEGACY_CAPABILITIES: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {},
    "roots": {"listChanged": True},
}


async def survey(address: Address, wanted: Wanted, terms: Terms) -> Survey:
    """What a server is. Raises `UpstreamDown`, `UpstreamTimeout` or `UpstreamError` naming what was tried."""
    # No name yet, or not known here: messages name the host, without what a URL may hold of secrets.
    upstream = Upstream(
        urlsplit(address.url).netloc.rpartition("@")[2], address, "", (address.terms or terms).looking()
    )
    try:
        return await _survey(upstream, wanted)
    except ChildFailed as error:
        raise error.explained() from error
    except (jsonrpc.NotJson, KeyError) as error:
        raise UpstreamError(f"Server {upstream.name!r} answered with what is not of the protocol's form") from error
    finally:
        upstream.close()


async def _survey(upstream: Upstream, wanted: Wanted) -> Survey:
    facts: dict[Era, Facts] = {}
    definitions: dict[tuple[Era, Kind], tuple[bytes, ...]] = {}
    problems: list[str] = []
    transport: Literal["http", "sse"] = "http"
    if wanted != "legacy":
        modern = await _discover(upstream)
        if modern is not None:
            facts["modern"] = modern
            await _list_all(ModernChannel(upstream), "modern", modern, definitions, problems, envelope({}, HUB_INFO))
    if wanted != "modern":
        try:
            session, transport = await _shake_hands(upstream)
        except (UpstreamDown, UpstreamTimeout, OutcomeUnknown):
            raise
        except UpstreamError:
            if not facts:
                raise
        else:
            try:
                legacy = _legacy_facts(session.result)
                facts["legacy"] = legacy
                await _list_all(session, "legacy", legacy, definitions, problems, None)
            finally:
                await session.close()
    if not facts:
        raise UpstreamError(
            "The server does not speak MCP 2026-07-28", hint="Register it with `--era auto` to allow earlier revisions."
        )
    return Survey(facts, definitions, transport, tuple(problems))


async def _discover(upstream: Upstream) -> Facts | None:
    """The modern side of a server, or None when it has none."""
    body = jsonrpc.request(b"1", "server/discover", {"_meta": orjson.dumps(envelope({}, HUB_INFO))})
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-protocol-version", VERSION.encode()),
        (b"mcp-method", b"server/discover"),
    ]
    response = await upstream.send(b"POST", headers, body)
    leaked = response.headers.get(b"mcp-session-id")
    if leaked is not None:
        # A 1.x server mints a session for every request it does not understand, and keeps it.
        await LegacySession(upstream, leaked, VERSIONS[0], b"{}").close()
    if response.status >= 500:
        if upstream.address.socket:
            await answer(upstream, response, b"1", _ignore)  # raises what the runner says of its child
        response.close()
        raise UpstreamDown(f"The server answered HTTP {response.status}", hint="Look at the server's own log.")
    try:
        incoming = await answer(upstream, response, b"1", _ignore)
    except UpstreamError:
        return None
    raw = incoming.message.members.get("result")
    if raw is None:
        return None
    told = jsonrpc.mapping(jsonrpc.value(raw))
    supported = told.get("supportedVersions")
    if not isinstance(supported, list) or VERSION not in supported:
        return None
    return Facts(
        capabilities=jsonrpc.mapping(told.get("capabilities")),
        info=jsonrpc.mapping(jsonrpc.mapping(told.get("_meta")).get(META + "serverInfo")),
        instructions=str(told.get("instructions") or ""),
    )


async def _shake_hands(upstream: Upstream) -> tuple[LegacySession | SseSession, Literal["http", "sse"]]:
    params = {"protocolVersion": VERSIONS[0], "capabilities": LEGACY_CAPABILITIES, "clientInfo": HUB_INFO}
    told = orjson.dumps(params)
    if upstream.address.transport == "sse":
        return await SseSession.open(upstream, told, _ignore), "sse"
    try:
        return await LegacySession.open(upstream, told, _ignore), "http"
    except (UpstreamDown, UpstreamTimeout):
        raise
    except UpstreamError as refused:
        # Not an MCP answer: perhaps the transport of 2024-11-05, which starts with a GET on the same address.
        try:
            return await SseSession.open(upstream, told, _ignore), "sse"
        except UpstreamError:
            raise refused from None


def _legacy_facts(result: bytes) -> Facts:
    told = jsonrpc.mapping(jsonrpc.value(result))
    info, capabilities = jsonrpc.mapping(told.get("serverInfo")), jsonrpc.mapping(told.get("capabilities"))
    return Facts(capabilities, info, str(told.get("instructions") or ""))


async def _list_all(
    channel: Channel,
    era: Era,
    facts: Facts,
    definitions: dict[tuple[Era, Kind], tuple[bytes, ...]],
    problems: list[str],
    meta: dict[str, Any] | None,
) -> None:
    for kind, (capability, method, member) in LISTS.items():
        if capability not in facts.capabilities:
            continue
        try:
            definitions[era, kind] = await _list(channel, method, member, meta, problems)
        except HubError as error:
            if isinstance(error, UpstreamDown | UpstreamTimeout) or kind == "tool":
                raise
            problems.append(f"{method}: {error.message}")


async def _list(
    channel: Channel, method: str, member: str, meta: dict[str, Any] | None, problems: list[str]
) -> tuple[bytes, ...]:
    found: list[bytes] = []
    seen: set[str] = set()
    params: dict[str, Any] = {} if meta is None else {"_meta": meta}
    for page in range(MOST_PAGES):
        identifier = b"%d" % (page + 2)
        body = jsonrpc.request(identifier, method, {key: orjson.dumps(value) for key, value in params.items()})
        incoming = await channel.request(identifier, method, body, _ignore)
        code, text = jsonrpc.failure(incoming.message)
        if code == -32601:
            return ()
        if code:
            raise UpstreamError(f"The server failed to answer {method}: {text}")
        try:
            told = jsonrpc.fragments(incoming.message.members["result"])
            found += [bytes(raw) for raw in jsonrpc.array(told.get(member, b"[]"))]
        except jsonrpc.NotJson as error:
            raise UpstreamError(f"The server's answer to {method} is not of the protocol's form") from error
        cursor = jsonrpc.value(told["nextCursor"]) if "nextCursor" in told else None
        if cursor is None:
            return tuple(found)
        if not isinstance(cursor, str):
            raise UpstreamError(f"The server's {method} names a next page by something that is not text")
        if cursor in seen:
            problems.append(f"{method}: its pages lead in a circle, the first round was taken")
            return tuple(found)
        seen.add(cursor)
        if len(found) > MOST_DEFINITIONS:
            problems.append(f"{method}: more than {MOST_DEFINITIONS} entries, the rest is left out")
            return tuple(found[:MOST_DEFINITIONS])
        params = params | {"cursor": cursor}
    raise UpstreamError(f"The server's {method} does not end")


async def _ignore(_message: Message) -> None:
    """A survey asks nothing that a server may answer with questions."""
