"""What an OpenAPI description and its API look like from outside, before a process is made from them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import orjson
import yaml

from hub.catalog import manifest
from hub.catalog.manifest import ServerSpec
from hub.doctor.checks import Finding, found
from hub.errors import HubError
from hub.net import Fetched, GuardedClient, NetError, UrlRefused, origin_of

FETCH_SECONDS = 8.0
LARGEST = 16 * 2**20
LARGEST_YAML = 2**20


async def look(spec: ServerSpec, http: GuardedClient) -> AsyncGenerator[Finding]:
    """All findings about the description and the place of its API."""
    url = spec.openapi or ""
    headers = {name: value.get_secret_value() for name, value in spec.headers.items()}
    home = origin_of(spec.base_url) == origin_of(url) if spec.base_url else True
    got = await _fetched(url, headers if home else {}, http)
    if isinstance(got, NetError):
        yield found("openapi-unreadable", str(got))
        return
    if got.status != 200 or got.url != url:
        moved = f", moved to {got.url[:200]}" if got.url != url else ""
        yield found("openapi-unreadable", f"HTTP {got.status}{moved}")
        return
    described = _described(got.body)
    if described is None:
        kind = got.headers.get("content-type", "no type").partition(";")[0]
        yield found("openapi-unreadable", f"{kind}: neither JSON nor YAML of an OpenAPI 3 description")
        return
    base = spec.base_url or _base(url, described)
    path = _harmless(described)
    if path is None:
        return
    there = await _fetched(base.rstrip("/") + path, headers, http)
    if isinstance(there, UrlRefused):
        return  # the process has the last word on where it may go
    if isinstance(there, NetError):
        yield found("openapi-base-url", f"{base[:200]}: {there}")
    elif there.status == 404:
        yield found("openapi-base-url", f"{(base.rstrip('/') + path)[:200]}: HTTP 404, though the description has it")


def _base(url: str, described: Mapping[str, Any]) -> str:
    """Where the bundled server takes the API to be: the description's first server, on the description's origin."""
    servers = described.get("servers")
    first: Any = servers[0] if isinstance(servers, list) and servers else {}  # pyright: ignore[reportUnknownVariableType]
    told: Any = first.get("url") if isinstance(first, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    named = urljoin(url, told) if isinstance(told, str) and "{" not in told else url
    here = urlsplit(url)
    return f"{here.scheme}://{here.netloc}{urlsplit(named).path if named != url else ''}"


def _harmless(described: Mapping[str, Any]) -> str | None:
    """The path of a GET that needs nothing."""
    paths = described.get("paths")
    for path, item in cast("dict[Any, Any]", paths).items() if isinstance(paths, dict) else ():
        operation: Any = item.get("get") if isinstance(item, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(path, str) and path.startswith("/") and "{" not in path and isinstance(operation, dict):
            needed = [one for one in operation.get("parameters") or () if isinstance(one, dict) and one.get("required")]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if not needed:
                return path
    return None


def _described(body: bytes) -> Mapping[str, Any] | None:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            value = manifest.parse(body) if len(body) <= LARGEST_YAML else None
        except (HubError, yaml.YAMLError, UnicodeDecodeError):
            return None
    if not isinstance(value, dict) or not str(value.get("openapi", "")).startswith("3."):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return None
    return cast("dict[str, Any]", value)


async def _fetched(url: str, headers: Mapping[str, str], http: GuardedClient) -> Fetched | NetError:
    try:
        return await http.fetch(
            url, headers=headers, allowed_origins=(origin_of(url),), seconds=FETCH_SECONDS, largest=LARGEST
        )
    except NetError as error:
        return error
