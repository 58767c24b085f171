"""One exchange with a server as it came, whatever it was: the doctor's eyes.

Stands on the same client as the data path, so it fails where that fails, but judges nothing and follows nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from hub.errors import UpstreamError
from hub.upstream import jsonrpc
from hub.upstream.address import Address
from hub.upstream.http1 import Origin, Response
from hub.upstream.legacy_http import VERSIONS
from hub.upstream.modern_http import VERSION, envelope
from hub.upstream.sse import Reader
from hub.upstream.terms import Bounds

ANSWER_BYTES = 16 * 2**20
STREAM_EVENT_BYTES = 2**20
INFO = {"name": "entrepot-doctor", "version": "1"}
ACCEPT = (b"accept", b"application/json, text/event-stream")
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, or the `trouble` in its place."""

    status: int = 0
    headers: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    body: bytes = b""
    message: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The JSON-RPC message in it, also where the type says otherwise; empty when there is none."""
    identifier: Any = None
    """The id that the request had."""
    trouble: UpstreamError | None = None
    seconds: float = 0.0

    def header(self, name: bytes) -> str:
        """A header as text, empty where there is none."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    @property
    def result(self) -> dict[str, Any] | None:
        """The result, when it is an object."""
        found = self.message.get("result")
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None

    @property
    def error(self) -> tuple[int, str]:
        """Code and message of a JSON-RPC error; (0, "") without one."""
        told = jsonrpc.mapping(self.message.get("error"))
        code = told.get("code")
        return (code if isinstance(code, int) else -32603, str(told.get("message", ""))[:300]) if told else (0, "")

    @property
    def text(self) -> str:
        """The beginning of the body, for a look at its words."""
        return self.body[:4096].decode("utf-8", "replace")


class Line:
    """The way to one server. Closed by whoever made it."""

    def __init__(self, address: Address, bounds: Bounds) -> None:
        self.address = address
        self._bounds = bounds
        self._origin = Origin(address)
        self._own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in address.headers]

    async def modern(self, method: str, params: dict[str, Any] | None = None, path: str = "") -> Heard:
        """One request of 2026-07-28."""
        body = _request(1, method, (params or {}) | {"_meta": envelope({}, INFO)})
        return await self.post(body, _modern_headers(method), 1, path)

    async def initialize(self, path: str = "", more: tuple[tuple[bytes, bytes], ...] = ()) -> Heard:
        """The greeting of the legacy eras."""
        params = {"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": INFO}
        return await self.post(_request(1, "initialize", params), list(more), 1, path)

    async def legacy(self, session: bytes | None, version: str, method: str, params: dict[str, Any]) -> Heard:
        """One request inside a session; a notification where the method is one."""
        notification = method.startswith("notifications/")
        body = _request(None if notification else 2, method, params)
        return await self.post(body, session_headers(session, version), 2)

    async def post(self, body: bytes, headers: list[tuple[bytes, bytes]], identifier: Any, path: str = "") -> Heard:
        """One POST, read until the answer to `identifier` is in."""
        return await self._exchange(b"POST", [JSON, ACCEPT, *headers], body, identifier, path)

    async def get(self, path: str, accept: bytes = b"text/event-stream") -> Heard:
        """One GET, read to its end or to the first event."""
        return await self._exchange(b"GET", [(b"accept", accept)], b"", None, path)

    async def delete(self, session: bytes, version: str) -> None:
        """End a session, without waiting long for it."""
        await self._exchange(b"DELETE", session_headers(session, version), b"", None, "")

    async def open(
        self, method: bytes, headers: list[tuple[bytes, bytes]], body: bytes, seconds: float
    ) -> tuple[Response | None, UpstreamError | None]:
        """A stream whose head came within `seconds`; else what came in its place."""
        bounds = Bounds(self._bounds.connect_seconds, seconds, ANSWER_BYTES)
        try:
            response = await self._origin.exchange(method, self._origin.path, headers + self._own, body, bounds)
        except UpstreamError as error:
            return None, error
        return response, None

    def close(self) -> None:
        """Close every connection."""
        self._origin.close()

    async def _exchange(
        self, method: bytes, headers: list[tuple[bytes, bytes]], body: bytes, identifier: Any, path: str
    ) -> Heard:
        began = time.monotonic()
        try:
            response = await self._origin.exchange(
                method, path or self._origin.path, headers + self._own, body, self._bounds
            )
        except UpstreamError as error:
            return Heard(trouble=error, identifier=identifier, seconds=time.monotonic() - began)
        trouble, content = None, response.body
        try:
            async with asyncio.timeout(self._bounds.answer_seconds):
                if response.streaming:
                    content = await _until(response, identifier)
        except TimeoutError:
            trouble = UpstreamError("The event stream brought no answer in time")
        except UpstreamError as error:
            trouble = error
        finally:
            response.close()
        message = _message(content, identifier)
        seconds = time.monotonic() - began
        return Heard(response.status, response.headers, content, message, identifier, trouble, seconds)


def session_headers(session: bytes | None, version: str) -> list[tuple[bytes, bytes]]:
    """The headers of a request inside a legacy session."""
    known = [(b"mcp-protocol-version", version.encode("latin-1", "replace"))]
    return [*known, (b"mcp-session-id", session)] if session is not None else known


def listen_request() -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers of a `subscriptions/listen` for changes of tools."""
    params = {"notifications": {"toolsListChanged": True}, "_meta": envelope({}, INFO)}
    return _request(1, "subscriptions/listen", params), [JSON, ACCEPT, *_modern_headers("subscriptions/listen")]


def _modern_headers(method: str) -> list[tuple[bytes, bytes]]:
    return [(b"mcp-protocol-version", VERSION.encode()), (b"mcp-method", method.encode())]


def _request(identifier: int | None, method: str, params: dict[str, Any]) -> bytes:
    told: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return orjson.dumps(told if identifier is None else {"id": identifier} | told)


async def _until(response: Response, identifier: Any) -> bytes:
    """The data of the event that answers, or of the first one where no answer is waited for."""
    reader, last = Reader(ANSWER_BYTES), b""
    async for chunk in response.chunks():
        for event in reader.feed(chunk):
            last = event.data
            if identifier is None or _message(last, identifier):
                return last
    return last


def _message(content: bytes, identifier: Any) -> dict[str, Any]:
    """The JSON-RPC response in a body; also where it is an event stream of another type, or has a byte order mark."""
    text = content.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith((b"event:", b"data:", b":", b"id:")):
        pieces = [line[5:].strip() for line in text.splitlines() if line.startswith(b"data:")]
        text = next((piece for piece in reversed(pieces) if piece), b"")
    try:
        found = jsonrpc.mapping(orjson.loads(text)) if text else {}
    except orjson.JSONDecodeError:
        return {}
    answers = found.get("jsonrpc") == "2.0" and "method" not in found and ("result" in found or "error" in found)
    return found if answers else {}
