"""Why a server refuses, and whether a client could learn from it how to sign in (RFC 9728, RFC 8414, OpenID Connect).

All URLs that the server names go through the guarded client: only the server's own origin was typed by a person.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from hub.doctor.checks import Finding, found
from hub.doctor.wire import Heard
from hub.net import Fetched, GuardedClient, NetError, UrlRefused, origin_of
from hub.upstream import jsonrpc

FETCH_SECONDS = 5.0
LARGEST = 2**18
MOST_SERVERS = 2
WELL_KNOWN = "/.well-known/oauth-protected-resource"
_LINK = re.compile(r'resource_metadata\s*=\s*"?([^",\s]+)')


@dataclass(frozen=True, slots=True)
class Metadata:
    """Protected-resource metadata, and where it was."""

    url: str
    told: dict[str, Any]


async def look(url: str, refused: Heard, credential: bool, http: GuardedClient) -> AsyncGenerator[Finding]:
    """All findings about an answer of 401."""
    if credential:
        yield found("auth-rejected", f"HTTP 401 with the declared credential{_reason(refused)}")
    else:
        yield found("auth-required", "HTTP 401, and no header is declared")
    challenge = refused.header(b"www-authenticate")
    if not challenge:
        yield found("challenge-missing", "HTTP 401 without WWW-Authenticate")
    link = _LINK.search(challenge)
    metadata: Metadata | None = None
    async for step in _metadata(url, link[1] if link else "", http):
        if isinstance(step, Metadata):
            metadata = step
        else:
            yield step
    if metadata is None:
        return
    resource = metadata.told.get("resource")
    if not isinstance(resource, str) or not _covers(resource, url):
        yield found("prm-wrong-resource", f"{metadata.url} is about {str(resource)[:200]}, not about {shown(url)}")
    issuers = metadata.told.get("authorization_servers")
    if not isinstance(issuers, list) or not issuers:
        yield found("prm-unreadable", f"{metadata.url} names no authorization server")
        return
    for issuer in issuers[:MOST_SERVERS]:  # pyright: ignore[reportUnknownVariableType] - any JSON
        async for step in _issuer(str(issuer), url, http):  # pyright: ignore[reportUnknownArgumentType]
            yield step


async def _metadata(url: str, link: str, http: GuardedClient) -> AsyncGenerator[Finding | Metadata]:
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}"
    path = parts.path.rstrip("/")
    broken = ""
    if link:
        got = await _fetched(link, url, http)
        if isinstance(got, Fetched) and got.status == 200:
            told = _object(got.body)
            if told:
                yield Metadata(link, told)
            else:
                yield found("prm-unreadable", f"{link} is not a JSON object")
            return
        broken = f"{link}: {_how(got)}"
        yield found("prm-link-broken", broken)
    for place in dict.fromkeys((root + path, root)):
        got = await _fetched(place, url, http)
        if isinstance(got, Fetched) and got.status == 200:
            told = _object(got.body)
            if not told:
                yield found("prm-unreadable", f"{place} is not a JSON object")
                return
            if place == root and path and not link:
                yield found("prm-at-root-only", f"Only {root} answers, {root + path} does not")
            yield Metadata(place, told)
            return
    if not broken:
        yield found("prm-missing", f"Neither {root + path} nor the root's answers")


async def _issuer(issuer: str, url: str, http: GuardedClient) -> AsyncGenerator[Finding]:
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    base = f"{parts.scheme}://{parts.netloc}"
    places = (
        f"{base}/.well-known/oauth-authorization-server{path}",
        f"{base}/.well-known/openid-configuration{path}",
        f"{base}{path}/.well-known/openid-configuration",
    )
    told: dict[str, Any] = {}
    for place in dict.fromkeys(places):
        got = await _fetched(place, url, http)
        if isinstance(got, UrlRefused):
            yield found("as-not-public", f"{issuer[:200]}: {got}")
            return
        if isinstance(got, Fetched) and got.status == 200 and (told := _object(got.body)):
            break
    if not told:
        yield found("as-metadata-missing", f"{issuer[:200]} answers at none of its three well-known places")
        return
    if told.get("issuer") != issuer:
        yield found("issuer-mismatch", f"{str(told.get('issuer'))[:200]!r} is not {issuer[:200]!r}")
    if not (isinstance(told.get("authorization_endpoint"), str) and isinstance(told.get("token_endpoint"), str)):
        yield found("as-endpoints-missing", f"{issuer[:200]} names no authorization_endpoint or token_endpoint")
    methods = told.get("code_challenge_methods_supported")
    if not isinstance(methods, list) or "S256" not in methods:
        yield found("pkce-missing", f"code_challenge_methods_supported is {str(methods)[:100]}")  # pyright: ignore[reportUnknownArgumentType]
    if not told.get("registration_endpoint") and not told.get("client_id_metadata_document_supported"):
        yield found("as-registration-missing", f"{issuer[:200]} has no registration_endpoint, and takes no documents")


async def _fetched(place: str, url: str, http: GuardedClient) -> Fetched | NetError:
    """What is at a URL; only the server's own origin may be private."""
    try:
        return await http.fetch(
            place,
            headers={"accept": "application/json"},
            allowed_origins=(origin_of(url),),
            seconds=FETCH_SECONDS,
            largest=LARGEST,
        )
    except NetError as error:
        return error


def shown(url: str) -> str:
    """A URL without its query, which may hold a secret."""
    parts = urlsplit(url)
    return parts._replace(query="…" if parts.query else "", fragment="").geturl()


def _covers(resource: str, url: str) -> bool:
    """Whether metadata about `resource` may be used for `url`: the same, or a parent of it."""
    one, other = urlsplit(resource.rstrip("/")), urlsplit(url.rstrip("/"))
    same = (one.scheme, one.netloc.lower()) == (other.scheme, other.netloc.lower())
    return same and (one.path == other.path or other.path.startswith(one.path.rstrip("/") + "/"))


def _object(body: bytes) -> dict[str, Any]:
    try:
        return jsonrpc.mapping(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def _how(got: Fetched | NetError) -> str:
    return f"HTTP {got.status}" if isinstance(got, Fetched) else str(got)


def _reason(refused: Heard) -> str:
    told = re.search(r'error_description="([^"]{1,200})"', refused.header(b"www-authenticate"))
    return f": {told[1]}" if told else ""
