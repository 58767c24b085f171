"""The hub as the agents part reaches it: over the wire only, with a key like anybody's.

`HubFace` carries a run's tool and model requests with that run's key; `HubAdmin` issues and revokes those keys with
the service key that `up` wrote. MCP is spoken in the modern era: the hub serves it on every endpoint.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from agents.wire.face import META, MODERN
from agents.wire.shapes import mapping
from hub.errors import Forbidden, HubError, NotFound, OutcomeUnknown, Unavailable, UpstreamDown, UpstreamError

CONNECT_SECONDS = 10.0
ADMIN_SECONDS = 30.0
LARGEST_RESULT = 2 * 2**20
"""Bytes of one tool's answer to a run; more would not fit any model and is kept twice in the journal."""


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where the hub listens: a URL, or a URL whose connection goes to a local socket."""

    url: str
    socket: str = ""

    def client(self, seconds: float, token: str = "") -> httpx.AsyncClient:
        """A client of the hub, to be closed by whoever asked for it."""
        return httpx.AsyncClient(
            base_url=self.url,
            transport=httpx.AsyncHTTPTransport(uds=self.socket or None),
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            headers={"authorization": f"Bearer {token}"} if token else {},
            trust_env=False,
        )


class HubFace:
    """Tools and models with one run's key. Use as an async context manager."""

    def __init__(self, address: HubAddress, token: str, trace: str, seconds: float) -> None:
        self._client = address.client(seconds, token)
        self._trace = trace

    async def __aenter__(self) -> HubFace:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def tools(self, server: str) -> list[dict[str, Any]]:
        """All tools of one server that this key may call. Raises `HubError` when it is off or denied."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        for _ in range(50):
            result = await self._rpc(server, "tools/list", cursor)
            found += result.get("tools") or []
            if result.get("nextCursor") is None:
                return found
            cursor = {"cursor": result["nextCursor"]}
        return found

    async def call(self, server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool under its server's own name for it. Raises `HubError`."""
        return await self._rpc(server, "tools/call", {"name": tool, "arguments": dict(arguments)}, tool)

    async def model_names(self, kind: str = "chat") -> list[str]:
        """The models of a kind that this key may use, in the hub's order. Raises `HubError`."""
        answer = await self._send("GET", "/v1/models")
        if answer.status_code != 200:
            raise refusal(answer)
        entries: list[dict[str, Any]] = orjson.loads(answer.content).get("data") or []
        return [entry["id"] for entry in entries if entry.get("kind", "chat") == kind]

    async def model(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Post to an OpenAI-compatible path; the answer's status and JSON, errors included."""
        answer = await self._send("POST", path, orjson.dumps(body))
        try:
            return answer.status_code, mapping(orjson.loads(answer.content))
        except orjson.JSONDecodeError as error:
            raise UpstreamError(f"The hub's answer ({answer.status_code}) to {path} is not JSON.") from error

    async def _rpc(self, server: str, method: str, params: dict[str, Any], name: str = "") -> dict[str, Any]:
        meta = {
            f"{META}protocolVersion": MODERN,
            f"{META}clientCapabilities": {},
            f"{META}clientInfo": {"name": "entrepot-agent", "version": "1"},
            "traceparent": traceparent(self._trace),
        }
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method} | ({"mcp-name": name} if name else {})
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
        answer = await self._send("POST", f"/mcp/s/{quote(server)}", orjson.dumps(body), headers)
        message = _message(answer)
        if "error" in message:
            told: dict[str, Any] = message["error"]
            raise UpstreamError(str(told.get("message", "The call failed.")), data=told.get("data"))
        if "result" not in message:
            raise refusal(answer)
        result: dict[str, Any] = message["result"]
        if result.get("resultType", "complete") != "complete":
            raise UpstreamError("The tool asked for input that an agent's run cannot give.")
        return result

    async def _send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "traceparent": traceparent(self._trace),
        }
        request = self._client.build_request(method, path, content=body, headers=sent | dict(headers or {}))
        try:
            answer = await self._client.send(request, stream=True)
            try:
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST_RESULT:
                        raise UpstreamError(f"The answer is larger than {LARGEST_RESULT} bytes.")
            finally:
                await answer.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UpstreamDown("The hub cannot be reached.") from error
        except httpx.HTTPError as error:
            raise OutcomeUnknown("The connection to the hub broke before its answer was complete.") from error
        # aiter_bytes has undone any content encoding; it must not be undone twice.
        kept = {"content-type": answer.headers.get("content-type", "")}
        return httpx.Response(answer.status_code, content=bytes(content), headers=kept)


class HubAdmin:
    """Run keys, with the service key of the agents worker. The file is read each time: `up` renews it."""

    def __init__(self, address: HubAddress, token_file: Path) -> None:
        self._address = address
        self._token_file = token_file

    async def issue(self, run: str, scopes: list[str], on_behalf_of: str, seconds: float) -> tuple[str, str]:
        """A new run key: its id, and the key itself. Raises `HubError`."""
        wanted = {
            "name": run,
            "scopes": scopes,
            "kind": "run",
            "on_behalf_of": on_behalf_of,
            "expires_seconds": int(seconds) + 1,
        }
        answer = await self._ask("POST", "/api/v1/tokens", wanted)
        if answer.status_code != 201:
            raise refusal(answer)
        made = orjson.loads(answer.content)
        return made["id"], made["token"]

    async def revoke(self, key: str) -> None:
        """Make a run key worthless; one that is already gone is no error. Raises `HubError`."""
        answer = await self._ask("DELETE", f"/api/v1/tokens/{quote(key)}")
        if answer.status_code not in (200, 204, 404):
            raise refusal(answer)

    async def has_native_tools(self, model: str) -> bool:
        """Whether a model chooses tools by itself; true of one that is not listed. Raises `HubError`."""
        answer = await self._ask("GET", "/api/v1/models")
        if answer.status_code != 200:
            raise refusal(answer)
        listed: list[dict[str, Any]] = orjson.loads(answer.content).get("models") or []
        return all(entry.get("native_tools", True) for entry in listed if entry.get("name") == model)

    async def agents_changed(self) -> None:
        """Have the hub look again at which agents there are. Raises `HubError`."""
        answer = await self._ask("POST", "/api/v1/servers/agents/refresh")
        if answer.status_code >= 400:
            raise refusal(answer)

    async def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            token = self._token_file.read_text("ascii").strip()
        except OSError as error:
            raise Unavailable(
                "The agents worker has no service key.", hint="Start it with `entrepot up`, which gives it one."
            ) from error
        try:
            async with self._address.client(ADMIN_SECONDS, token) as client:
                return await client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise UpstreamDown("The hub cannot be reached.") from error


def refusal(answer: httpx.Response) -> HubError:
    """A refusing HTTP answer as an error: who may not, what is not there, or what failed."""
    try:
        told = mapping(orjson.loads(answer.content))
    except orjson.JSONDecodeError:
        told = {}
    said: Any = told.get("detail") or told.get("message") or told.get("error") or told.get("title") or ""
    message = str(mapping(said).get("message") or said) or f"The hub answered {answer.status_code}."
    kind = {401: Forbidden, 403: Forbidden, 404: NotFound}.get(answer.status_code, UpstreamError)
    return kind(message)


def traceparent(trace: str) -> str:
    """A W3C trace parent with a new span below `trace` (32 hexadecimal digits)."""
    return f"00-{trace}-{secrets.token_hex(8)}-01"


def _message(answer: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC answer, whether it came as JSON or at the end of a stream."""
    try:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            return mapping(orjson.loads(answer.content))
        for event in reversed(answer.text.replace("\r\n", "\n").split("\n\n")):
            text = "\n".join(line[5:].lstrip() for line in event.split("\n") if line.startswith("data:"))
            content = mapping(orjson.loads(text)) if text else {}
            if "result" in content or "error" in content:
                return content
    except orjson.JSONDecodeError as error:
        raise UpstreamError(f"The hub's answer ({answer.status_code}) is not JSON-RPC.") from error
    return {}
