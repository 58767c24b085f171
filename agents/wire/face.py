"""MCP for a handful of tools, in both eras, as a raw ASGI app: what the hub sees of agents, and a run of its tools.

Which tools there are and what a call does is the `ToolSource`'s affair. Host and Origin are not looked at: the app
listens on sockets in a 0700 folder. `params._meta["dev.entrepot/caller"]` is believed for the same reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from starlette.types import Receive, Scope, Send

from agents.wire.shapes import mapping
from hub.errors import BadRequest, HubError, InvalidParams, TooLarge
from hub.ids import new_id

log = logging.getLogger("agents.wire")

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
META = "io.modelcontextprotocol/"
TASKS = "io.modelcontextprotocol/tasks"
CALLER = "dev.entrepot/caller"
LARGEST_BODY = 4 * 2**20
QUIET_SECONDS = 15.0
"""After this long without an answer the reply becomes a stream, so that no proxy on the way gives up."""

Progress = Callable[[str], None]
"""Says what the call is doing now; never blocks."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One `tools/call`, free of its era."""

    name: str
    arguments: Mapping[str, Any]
    caller: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """On whose behalf the hub calls: subject, name, scopes, trace. Empty inside a run."""
    tasks: bool = False
    """Whether the client declared the Tasks extension on this request."""


class ToolSource(Protocol):
    """What stands behind a face."""

    async def tools(self) -> list[dict[str, Any]]:
        """The tools' definitions, in a stable order."""
        ...

    async def call(self, call: ToolCall, progress: Progress) -> dict[str, Any]:
        """Answer a call with a result; cancelled when the client takes the call back. Raises `HubError`."""
        ...

    async def task(self, verb: str, task: str, caller: Mapping[str, Any]) -> dict[str, Any]:
        """Answer `tasks/get`, `tasks/update` or `tasks/cancel`. Raises `InvalidParams` for an unknown task."""
        ...


class MissingCapability(BadRequest):
    """The request needs a capability that the client did not declare (MCP 2026-07-28, -32021)."""

    code, rpc = "missing-capability", -32021


class UnknownMethod(HubError):
    """No such method in this era. JSON-RPC -32601, HTTP 404."""

    code, rpc, status, owner = "unknown-method", -32601, 404, "client"


class UnsupportedVersion(BadRequest):
    """A protocol version that is not spoken here (MCP 2026-07-28, -32022)."""

    code, rpc = "unsupported-version", -32022


class Face:
    """The ASGI app. Keeps the calls under way, so that a legacy client can take one back by notification."""

    def __init__(self, source: ToolSource, *, name: str, version: str, instructions: str = "") -> None:
        self._source = source
        self._info = {"name": name, "version": version}
        self._instructions = instructions
        self._running: dict[tuple[str, Any], asyncio.Task[dict[str, Any]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in scope["headers"]}
        if scope["method"] != "POST":
            # DELETE ends a legacy session; nothing is kept for one, so there is nothing to end.
            await _reply(send, 200 if scope["method"] == "DELETE" else 405, b"", {"allow": "POST"})
            return
        identifier: Any = None
        try:
            message = _parse(await read_body(receive))
            identifier = message.get("id")
            await self._dispatch(message, headers, receive, send)
        except HubError as error:
            await _reply_json(send, error.status if error.rpc != -32603 else 200, fault(identifier, error))

    async def _dispatch(
        self, message: dict[str, Any], headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        method: str = message["method"]
        params: dict[str, Any] = message.get("params") or {}
        meta = mapping(params.get("_meta"))
        session = headers.get("mcp-session-id", "")
        spoken = headers.get("mcp-protocol-version", "")
        if "id" not in message:
            if method == "notifications/cancelled":
                self._take_back(session, params.get("requestId"))
            await _reply(send, 202, b"")
            return
        modern = (spoken != "" and spoken not in LEGACY) or f"{META}protocolVersion" in meta
        if modern:
            _check_envelope(headers, method, meta)
        if method == "tools/call":
            await self._call(message["id"], params, meta, session, modern, receive, send)
            return
        result = await (self._modern(method, params, meta) if modern else self._legacy(method, params))
        extra = {"mcp-session-id": new_id("s_")} if method == "initialize" else {}
        await _reply_json(send, 200, _answer(message["id"], result), extra)

    async def _modern(self, method: str, params: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
        complete = {"resultType": "complete", "_meta": {f"{META}serverInfo": self._info}}
        match method:
            case "server/discover":
                told = {"instructions": self._instructions} if self._instructions else {}
                capabilities: dict[str, Any] = {"tools": {"listChanged": False}, "extensions": {TASKS: {}}}
                return (
                    complete
                    | told
                    | {
                        "supportedVersions": [MODERN],
                        "capabilities": capabilities,
                        "ttlMs": 60_000,
                        "cacheScope": "public",
                    }
                )
            case "tools/list":
                return complete | {"tools": await self._source.tools(), "ttlMs": 5_000, "cacheScope": "public"}
            case "tasks/get" | "tasks/update" | "tasks/cancel":
                if not _declares_tasks(meta):
                    raise MissingCapability(
                        "Tasks need the extension to be declared.",
                        data={"requiredCapabilities": {"extensions": {TASKS: {}}}},
                    )
                return complete | await self._source.task(method, str(params.get("taskId", "")), meta.get(CALLER) or {})
            case _:
                raise UnknownMethod(f"There is no method {method!r}.")

    async def _legacy(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                asked = params.get("protocolVersion")
                told = {"instructions": self._instructions} if self._instructions else {}
                return told | {
                    "protocolVersion": asked if asked in LEGACY else LEGACY[0],
                    "capabilities": {"tools": {"listChanged": False}},
                    "serverInfo": self._info,
                }
            case "ping":
                return {}
            case "tools/list":
                return {"tools": await self._source.tools()}
            case _:
                raise UnknownMethod(f"There is no method {method!r}.")

    async def _call(
        self,
        identifier: Any,
        params: dict[str, Any],
        meta: dict[str, Any],
        session: str,
        modern: bool,
        receive: Receive,
        send: Send,
    ) -> None:
        arguments = mapping(params.get("arguments"))
        if not isinstance(params.get("name"), str) or not isinstance(params.get("arguments") or {}, dict):
            raise InvalidParams("A call needs a name, and arguments that are an object.")
        call = ToolCall(params["name"], arguments, meta.get(CALLER) or {}, modern and _declares_tasks(meta))
        said: asyncio.Queue[str] = asyncio.Queue()
        work = asyncio.create_task(self._source.call(call, said.put_nowait))
        gone = asyncio.create_task(_until_gone(receive))
        key = (session, identifier)
        self._running[key] = work
        try:
            reply = Reply(send, identifier, meta.get("progressToken"), self._info if modern else None)
            await reply.follow(work, said, gone if modern else None)
        finally:
            self._running.pop(key, None)
            gone.cancel()
            if modern and not work.done():
                work.cancel()
            await asyncio.wait({work}, timeout=10)

    def _take_back(self, session: str, identifier: Any) -> None:
        if work := self._running.get((session, identifier)):
            work.cancel()


class Reply:
    """The answer to one call: JSON if it comes at once, else a stream with progress before it."""

    def __init__(self, send: Send, identifier: Any, token: Any, info: dict[str, str] | None) -> None:
        self._send = send
        self._identifier = identifier
        self._token = token
        self._info = info
        self._streaming = False
        self._count = 0

    async def follow(
        self, work: asyncio.Task[dict[str, Any]], said: asyncio.Queue[str], gone: asyncio.Task[None] | None
    ) -> None:
        """Until the work ends, or the client has gone where that means cancelling (`gone` given)."""
        listening = asyncio.create_task(said.get())
        try:
            while not work.done():
                watched: set[asyncio.Task[Any]] = {work, listening} | ({gone} if gone else set())
                done, _ = await asyncio.wait(watched, timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if gone in done:
                    return
                if listening in done:
                    await self._progress(listening.result())
                    listening = asyncio.create_task(said.get())
                elif not done:
                    await self._event(b": waiting\r\n\r\n")
            if listening.done():
                await self._progress(listening.result())
            while not said.empty():
                await self._progress(said.get_nowait())
        finally:
            listening.cancel()
        await self._finish(self._outcome(work))

    def _outcome(self, work: asyncio.Task[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if work.cancelled():
            return 200, fault(self._identifier, HubError("The call was cancelled."))
        error = work.exception()
        if isinstance(error, HubError):
            return 200 if error.rpc == -32602 else error.status, fault(self._identifier, error)
        if error is not None:
            log.error("a call broke", exc_info=error)
            return 200, fault(self._identifier, HubError("The call broke inside the platform; its log says why."))
        result = work.result()
        if self._info is not None:
            meta: dict[str, Any] = {f"{META}serverInfo": self._info} | mapping(result.get("_meta"))
            result: dict[str, Any] = {"resultType": "complete"} | result | {"_meta": meta}
        return 200, _answer(self._identifier, result)

    async def _progress(self, message: str) -> None:
        if self._token is None:
            return
        self._count += 1
        params = {"progressToken": self._token, "progress": self._count, "message": message}
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        await self._event(b"event: message\r\ndata: " + orjson.dumps(note) + b"\r\n\r\n")

    async def _event(self, frame: bytes) -> None:
        if not self._streaming:
            self._streaming = True
            head = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": 200, "headers": head})
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    async def _finish(self, outcome: tuple[int, dict[str, Any]]) -> None:
        status, message = outcome
        if not self._streaming:
            await _reply_json(self._send, status, message)
            return
        await self._event(b"event: message\r\ndata: " + orjson.dumps(message) + b"\r\n\r\n")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def fault(identifier: Any, error: HubError) -> dict[str, Any]:
    """A JSON-RPC error in wire form."""
    told = {"code": error.rpc, "message": error.message, "data": error.envelope()}
    return {"jsonrpc": "2.0", "id": identifier, "error": told}


async def read_body(receive: Receive, largest: int = LARGEST_BODY) -> bytes:
    """The whole request body. Raises `TooLarge` past `largest` bytes."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > largest:
            raise TooLarge(f"The request is larger than {largest} bytes.")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = mapping(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(message.get("method"), str):
        raise BadRequest("The body is not a single JSON-RPC request.")
    if not isinstance(message.get("params") or {}, dict):
        raise InvalidParams("params must be an object.")
    return message


def _check_envelope(headers: Mapping[str, str], method: str, meta: dict[str, Any]) -> None:
    version = meta.get(f"{META}protocolVersion")
    if version is None or f"{META}clientCapabilities" not in meta:
        fault = InvalidParams("params._meta lacks the protocol version or the client's capabilities.")
        raise fault
    if version != MODERN:
        data = {"supported": [MODERN], "requested": version}
        raise UnsupportedVersion(f"Protocol version {version!r} is not spoken here.", data=data)
    if headers.get("mcp-method", method) != method:
        raise BadRequest("Mcp-Method differs from the body's method.")


def _declares_tasks(meta: Mapping[str, Any]) -> bool:
    capabilities = mapping(meta.get(f"{META}clientCapabilities"))
    return TASKS in mapping(capabilities.get("extensions"))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer(identifier: Any, result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


async def _reply_json(send: Send, status: int, content: Any, extra: Mapping[str, str] | None = None) -> None:
    await _reply(send, status, orjson.dumps(content), {"content-type": "application/json"} | dict(extra or {}))


async def _reply(send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    head = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    head.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
