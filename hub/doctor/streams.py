"""Whether what a server says arrives when it says it, and whether a silent stream lives: what proxies break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from hub.doctor.checks import Finding, found
from hub.doctor.wire import Line, listen_request, session_headers
from hub.errors import UpstreamError, UpstreamTimeout
from hub.upstream import jsonrpc
from hub.upstream.http1 import Response

PROMPT_SECONDS = 4.0
"""A stream's head, and the acknowledgement on it, are due at once."""


async def look_modern(line: Line, capabilities: Mapping[str, Any], idle_seconds: float) -> AsyncGenerator[Finding]:
    """Open a subscription, wait for its acknowledgement, then keep silent for `idle_seconds`."""
    if not jsonrpc.mapping(capabilities.get("tools")).get("listChanged"):
        return
    body, headers = listen_request()
    response, trouble = await line.open(b"POST", headers, body, PROMPT_SECONDS)
    async for finding in _watched("subscriptions/listen", response, trouble, True, idle_seconds):
        yield finding


async def look_legacy(line: Line, session: bytes | None, version: str, idle_seconds: float) -> AsyncGenerator[Finding]:
    """Open the session's own stream, where there is one."""
    headers = [(b"accept", b"text/event-stream"), *session_headers(session, version)]
    response, trouble = await line.open(b"GET", headers, b"", PROMPT_SECONDS)
    async for finding in _watched("The session's stream", response, trouble, False, idle_seconds):
        yield finding


async def _watched(
    what: str, response: Response | None, trouble: UpstreamError | None, speaks_first: bool, idle_seconds: float
) -> AsyncGenerator[Finding]:
    if response is None:
        if isinstance(trouble, UpstreamTimeout):
            yield found("sse-buffered", f"{what}: not even a head within {PROMPT_SECONDS:.0f} s")
        return
    if not response.streaming:
        return
    chunks = response.chunks()
    try:
        if speaks_first:
            try:
                async with asyncio.timeout(PROMPT_SECONDS):
                    await anext(chunks, b"")
            except TimeoutError:
                yield found("sse-buffered", f"{what}: no acknowledgement within {PROMPT_SECONDS:.0f} s")
                return
        heard = time.monotonic()
        try:
            async with asyncio.timeout(idle_seconds):
                async for _ in chunks:
                    heard = time.monotonic()
        except TimeoutError:
            return
        except UpstreamError:
            yield found("idle-cut", f"{what} broke off after {time.monotonic() - heard:.1f} s of silence")
            return
        if speaks_first:
            # A graceful end says so with a result first; what is only closed was not ended by the server.
            silent = time.monotonic() - heard
            if silent > 1:
                yield found("idle-cut", f"{what} was closed after {silent:.1f} s of silence")
    except UpstreamError as error:
        yield found("idle-cut", f"{what}: {error.message}")
    finally:
        await chunks.aclose()
        response.close()
