"""What the first answers of a server say: whether it is MCP at all, and if not, what stands in its place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from hub.doctor import connection
from hub.doctor.checks import Finding, found
from hub.doctor.wire import Heard, Line
from hub.errors import OutcomeUnknown, UpstreamDown, UpstreamTimeout

USUAL_PATHS = ("/mcp", "/sse", "/mcp/", "/", "/api/mcp", "/v1/mcp")
MOST_SKEW_SECONDS = 90
"""Tokens are commonly given a minute or two of leeway."""

GATEWAY = (502, 503, 504)
JSON_TYPES = ("application/json", "text/event-stream")


async def look(line: Line, first: Heard) -> Finding | None:
    """Why `first`, the answer to a greeting, is not MCP. None when it is, or an authorization matter (401)."""
    if first.trouble is not None:
        return await _no_answer(line, first)
    status, seen = first.status, _seen(first)
    if status in (301, 302, 303, 307, 308):
        return found("redirect", f"HTTP {status} to {_without_query(first.header(b'location'))}")
    if status in GATEWAY and not first.message:
        return found("gateway-error", seen)
    if status >= 500 and not first.message:
        return found("server-error", seen)
    if status == 429:
        return found("rate-limited", seen)
    if status == 401:
        return None
    if status in (400, 403, 421) and not _is_about_protocol(first):
        return await _refused(line, first)
    if status in (404, 405) and not first.message:
        return await _elsewhere(line, "not-found" if status == 404 else "method-not-allowed", seen)
    if not first.message and status != 202:
        if first.header(b"content-encoding") or b"\0" in first.body[:64]:
            return None  # told as an odd encoding
        if status < 300:
            return await _elsewhere(line, "not-mcp", seen)
        return found("refused", seen)
    return None


def form(first: Heard, declared_socket: bool) -> Iterator[Finding]:
    """Faults of form in an answer that is, or may be, MCP."""
    encoding = first.header(b"content-encoding").lower()
    kind = first.header(b"content-type")
    if encoding not in ("", "identity"):
        yield found("odd-encoding", f"Content-Encoding: {encoding}, although none was asked for.")
    elif first.body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in first.body[:64]:
        yield found("odd-encoding", "The answer begins with a byte order mark, or is not in UTF-8.")
    elif "charset=" in kind.lower() and "utf-8" not in kind.lower():
        yield found("odd-encoding", f"Content-Type: {kind[:100]}")
    if first.message and not declared_socket and not kind.lower().startswith(JSON_TYPES):
        yield found("wrong-content-type", f"Content-Type: {kind[:100] or '(none)'}")
    if (skew := skewed(first)) is not None:
        ahead = "ahead of" if skew > 0 else "behind"
        yield found("clock-skew", f"The server's clock is {abs(skew):.0f} s {ahead} the hub's (header Date).")


def skewed(first: Heard) -> float | None:
    """Seconds that the server's clock is ahead, where that is far."""
    told = first.header(b"date")
    try:
        skew = parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return skew if abs(skew) > MOST_SKEW_SECONDS else None


async def _no_answer(line: Line, first: Heard) -> Finding:
    trouble = first.trouble
    seen = trouble.message if trouble is not None else ""
    url = line.address.url
    plain = url.startswith("http://") and not line.address.socket
    if plain and not isinstance(trouble, UpstreamTimeout) and await connection.speaks_tls(url):
        return found("tls-on-plain-port", f"{urlsplit(url).netloc} answers to TLS.")
    if isinstance(trouble, UpstreamTimeout):
        return found("silent", f"No answer within {first.seconds:.0f} s.")
    if isinstance(trouble, OutcomeUnknown):
        return found("hangs-up", seen)
    if isinstance(trouble, UpstreamDown):
        return found("unreachable", seen)
    return found("not-http" if "not HTTP" in seen else "refused", seen)


async def _refused(line: Line, first: Heard) -> Finding | None:
    """A 400, 403 or 421 that is not about the protocol: the Host, the Origin, or the caller."""
    said, seen = first.text.lower(), _seen(first)
    if first.status == 421 or ("host" in said and "origin" not in said):
        return found("host-rejected", f"{seen}, for the Host {urlsplit(line.address.url).netloc}")
    here = urlsplit(line.address.url)
    origin = f"{here.scheme}://{here.netloc}".encode("latin-1", "replace")
    if "origin" in said:
        return found("origin-rejected", seen)
    again = await line.initialize(more=((b"origin", origin),))
    if again.result is not None or again.status in (200, 202):
        return found("origin-rejected", f"{seen} without an Origin, but not with one of its own")
    return found("forbidden" if first.status == 403 else "refused", seen)


async def _elsewhere(line: Line, code: str, seen: str) -> Finding | None:
    """Where MCP is instead; nothing when this is the old transport, which begins with a GET."""
    here = urlsplit(line.address.url).path or "/"
    if await _is_old(line, ""):
        return None
    for path in dict.fromkeys((*USUAL_PATHS, here.rstrip("/") + "/mcp", here.rstrip("/") or "/", here + "/")):
        if path == here:
            continue
        heard = await line.initialize(path)
        if heard.trouble is not None:
            continue
        if heard.message or heard.status == 401 or (heard.status in (404, 405) and await _is_old(line, path)):
            return found("wrong-path", f"{seen} here, while {path} answers as MCP")
    return found(code, seen)


async def _is_old(line: Line, path: str) -> bool:
    heard = await line.get(path)
    kind = heard.header(b"content-type")
    return heard.status == 200 and kind.startswith("text/event-stream") and bool(heard.body)


def _is_about_protocol(first: Heard) -> bool:
    """Whether an error is one that a server of another era gives to a greeting of this one."""
    return bool(first.message) or "session" in first.text.lower()


def _seen(first: Heard) -> str:
    kind = first.header(b"content-type").partition(";")[0] or "no type"
    return f"HTTP {first.status} ({kind[:60]})"


def _without_query(location: str) -> str:
    parts = urlsplit(location)
    return parts._replace(query="…" if parts.query else "").geturl()[:300]
