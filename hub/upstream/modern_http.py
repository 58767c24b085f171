"""MCP 2026-07-28 over HTTP: every request is a POST of its own, with its routing headers (protocol section 1.2)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hub.upstream.connection import Incoming, OnMessage, Upstream, answer
from hub.upstream.terms import Bounds

VERSION = "2026-07-28"

LISTEN = "subscriptions/listen"

META = "io.modelcontextprotocol/"

NAME_KEYS = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""The parameter that `Mcp-Name` mirrors, by method."""

_BASE = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
    (b"mcp-protocol-version", VERSION.encode()),
]


class ModernChannel:
    """Requests to one server in the modern era. `name` is what `Mcp-Name` says, if the method has one."""

    def __init__(
        self,
        upstream: Upstream,
        name: str | None = None,
        param_headers: tuple[tuple[bytes, bytes], ...] = (),
        bounds: Bounds | None = None,
    ) -> None:
        self._upstream = upstream
        self._name = name
        self._param_headers = param_headers
        self._bounds = bounds

    async def request(self, identifier: bytes, method: str, body: bytes, on_message: OnMessage) -> Incoming:
        """One POST. The caller's cancellation closes the connection, which is how this era cancels."""
        headers = [*_BASE, (b"mcp-method", method.encode()), *self._param_headers]
        if self._name is not None:
            headers.append((b"mcp-name", header_value(self._name)))
        upstream = self._upstream
        weight = method != LISTEN
        upstream.load += weight
        try:
            response = await upstream.send(b"POST", headers, body, self._bounds)
            return await answer(upstream, response, identifier, on_message, self._bounds)
        finally:
            upstream.load -= weight


def envelope(capabilities: Mapping[str, Any], client: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The `_meta` that every request of this era carries."""
    meta: dict[str, Any] = {META + "protocolVersion": VERSION, META + "clientCapabilities": dict(capabilities)}
    if client:
        meta[META + "clientInfo"] = dict(client)
    return meta | more


def header_value(text: str) -> bytes:
    """A value as it travels in a mirrored header: plain where that is safe, else in the base64 sentinel form."""
    plain = text.isascii() and text.isprintable() and text == text.strip(" \t")
    if plain and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text.encode()
    return b"=?base64?" + base64.b64encode(text.encode()) + b"?="
