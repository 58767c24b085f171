"""The HTTP to an engine: connections, deadlines, bounds, and what an engine's error means to the caller.

Endpoints were typed by an administrator, so private addresses are allowed and redirects never followed. Nothing is
repeated, with one exception: a kept connection that turns out to be dead before its first byte says nothing about the
engine, so the request goes once more over a fresh one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import anyio
import httpx
import orjson

from hub.errors import BadRequest, HubError, Owner, TooMany, UpstreamDown, UpstreamError, UpstreamTimeout
from hub.inference.spec import Model

LONGEST_MESSAGE = 600
"""Characters of an engine's own error text that are passed on; some echo the whole prompt."""


class ModelFailed(UpstreamError):
    """The engine answered with something unusable, or broke off. HTTP 502."""

    code = "model-failed"


class ModelMisconfigured(ModelFailed):
    """The engine refuses what the registration says: key, name or ability. HTTP 502."""

    code = "model-misconfigured"
    owner: Owner = "administrator"


class ModelDown(UpstreamDown):
    """The engine could not be reached; the request was not sent. HTTP 503."""

    code = "model-down"


class ModelTimeout(UpstreamTimeout):
    """The engine did not answer within its deadline. HTTP 504."""

    code = "model-timeout"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long an engine may take (seconds) and how much it may say (bytes)."""

    connect_seconds: float = 10
    answer_seconds: float = 300
    """To the whole of a plain answer, or to the first byte of a stream; a cold local engine loads weights first."""
    silence_seconds: float = 60
    """Between two pieces of a stream."""
    stream_seconds: float = 1800
    """For a whole stream."""
    look_seconds: float = 10
    answer_bytes: int = 64 * 2**20
    event_bytes: int = 2**20
    connections: int = 200


class Relay:
    """Connections to every engine. Made once, closed once, by the same owner."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def close(self) -> None:
        """Close every connection."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def ask(self, model: Model, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST and the whole answer. Raises `BadRequest`, `TooMany` or `UpstreamError` and its kinds."""
        with _told(model), anyio.fail_after(self.bounds.answer_seconds):
            async with self._exchange(model, "POST", path, body) as response:
                content = await self._whole(model, response)
        return _object(model, content)

    @asynccontextmanager
    async def stream(self, model: Model, path: str, body: dict[str, Any]) -> AsyncGenerator[AsyncIterator[bytes]]:
        """POST and the pieces of the answer as they come. Leaving the block ends the engine's work.

        Raises as `ask`, on entering for what the engine says first, while iterating for what breaks later.
        """
        async with AsyncExitStack() as stack:
            with _told(model), anyio.fail_after(self.bounds.answer_seconds):
                response = await stack.enter_async_context(self._exchange(model, "POST", path, body))
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise ModelFailed(
                    f"The endpoint of model {model.name!r} did not answer as an event stream.",
                    hint="Ask without stream, or have an administrator check the endpoint's URL.",
                )
            yield self._pieces(model, response)

    async def offered(self, model: Model) -> frozenset[str]:
        """The names that the endpoint lists; empty when it has no list. Raises as `ask` when it cannot be used."""
        with _told(model), anyio.fail_after(self.bounds.look_seconds):
            async with self._exchange(model, "GET", "/models", None) as response:
                content = await self._whole(model, response)
        listed = _object(model, content).get("data")
        if not isinstance(listed, list):
            return frozenset()
        entries = cast("list[Any]", listed)
        return frozenset(
            str(cast("dict[str, Any]", entry)["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry
        )

    @asynccontextmanager
    async def _exchange(
        self, model: Model, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncGenerator[httpx.Response]:
        connected = False

        async def watch(event: str, _details: Any) -> None:
            nonlocal connected
            connected = connected or event.startswith("connection.connect_")

        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if model.api_key:
            headers["authorization"] = f"Bearer {model.api_key}"
        content = None if body is None else orjson.dumps(body)

        async def send(client: httpx.AsyncClient) -> httpx.Response:
            request = client.build_request(
                method, model.url + path, content=content, headers=headers, extensions={"trace": watch}
            )
            return await client.send(request, stream=True)

        async with AsyncExitStack() as stack:
            try:
                response = await send(self._client(model.socket))
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if connected:
                    raise
                # llama.cpp closes a kept connection after a streamed reply without saying so.
                response = await send(await stack.enter_async_context(self._new_client(model.socket)))
            stack.push_async_callback(_closed, response)
            if response.status_code >= 400:
                raise _meaning(model, response, await self._whole(model, response, bound=2**16, cut=True))
            if response.status_code != 200:
                raise ModelMisconfigured(
                    f"The endpoint of model {model.name!r} answered HTTP {response.status_code}.",
                    hint="An administrator should check the endpoint's URL; redirects are not followed.",
                )
            yield response

    async def _whole(self, model: Model, response: httpx.Response, *, bound: int = 0, cut: bool = False) -> bytes:
        limit = bound or self.bounds.answer_bytes
        collected = bytearray()
        async for piece in response.aiter_bytes():
            collected += piece
            if len(collected) > limit:
                if cut:
                    break
                raise ModelFailed(f"The answer of model {model.name!r} is larger than {limit} bytes.")
        return bytes(collected[:limit])

    async def _pieces(self, model: Model, response: httpx.Response) -> AsyncIterator[bytes]:
        pieces = response.aiter_bytes()
        total, ends = 0, anyio.current_time() + self.bounds.stream_seconds
        while True:
            left = min(self.bounds.silence_seconds, ends - anyio.current_time())
            with _told(model), anyio.fail_after(max(left, 0)):
                piece = await anext(pieces, None)
            if piece is None:
                return
            total += len(piece)
            if total > self.bounds.answer_bytes:
                raise ModelFailed(
                    f"The answer of model {model.name!r} is larger than {self.bounds.answer_bytes} bytes."
                )
            yield piece

    def _client(self, socket: str) -> httpx.AsyncClient:
        client = self._clients.get(socket)
        if client is None:
            client = self._clients[socket] = self._new_client(socket)
        return client

    def _new_client(self, socket: str) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self.bounds.connections, max_keepalive_connections=20)
        transport = httpx.AsyncHTTPTransport(uds=socket or None, limits=limits, trust_env=False)
        return httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=self._timeout())

    def _timeout(self) -> httpx.Timeout:
        bounds = self.bounds
        return httpx.Timeout(bounds.answer_seconds, connect=bounds.connect_seconds, pool=bounds.connect_seconds)


@contextmanager
def _told(model: Model) -> Generator[None]:
    """Turn what the network did into errors that say who must act; never the URL, which may hold secrets."""
    name = model.name
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        hint = "It is being started; try again shortly." if model.internal else "Ask an administrator to probe it."
        raise ModelDown(f"The endpoint of model {name!r} cannot be reached.", hint=hint, reason=repr(error)) from error
    except httpx.PoolTimeout as error:
        raise TooMany(f"All connections to model {name!r} are in use.", hint="Send fewer requests at once.") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ModelTimeout(
            f"Model {name!r} did not answer in time.", hint="Ask for fewer tokens, or try again later."
        ) from error
    except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
        raise ModelFailed(
            f"The endpoint of model {name!r} broke off.",
            hint="Try again; if it persists, an administrator must look.",
            reason=repr(error),
        ) from error
    except httpx.InvalidURL as error:
        raise ModelMisconfigured(f"The URL of model {name!r} is not usable.", reason=repr(error)) from error


async def _closed(response: httpx.Response) -> None:
    with anyio.CancelScope(shield=True), anyio.move_on_after(5):
        await response.aclose()


def _object(model: Model, content: bytes) -> dict[str, Any]:
    try:
        value: Any = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ModelFailed(
            f"The endpoint of model {model.name!r} answered with something that is not JSON.",
            hint="An administrator should check that its URL ends where /chat/completions begins.",
        ) from error
    if not isinstance(value, dict):
        raise ModelFailed(f"The endpoint of model {model.name!r} answered with JSON that is not an object.")
    return cast("dict[str, Any]", value)


def _meaning(model: Model, response: httpx.Response, content: bytes) -> HubError:
    """What an engine's error says to our caller, and who must act."""
    name, status = model.name, response.status_code
    said = engine_message(content)
    if status in (401, 403):
        return ModelMisconfigured(
            f"The endpoint of model {name!r} refuses the hub's credential.",
            hint="An administrator must give the model a valid api_key.",
            reason=said,
        )
    if status in (404, 405, 501):
        return ModelMisconfigured(
            f"The endpoint of model {name!r} does not offer this: {said or f'HTTP {status}'}",
            hint="An administrator should check the model's url, kind and remote_name.",
        )
    if status == 429:
        return TooMany(f"The endpoint of model {name!r} is at its limit.", retry_after=_seconds(response))
    if status == 413 or "context" in said and "size" in said or "context length" in said:
        return BadRequest(
            f"The request is too long for model {name!r}: {said}",
            hint="Send less text or fewer messages.",
            data={"code": "context_length_exceeded", "param": "messages"},
        )
    if status < 500:
        return BadRequest(f"Model {name!r} refuses the request: {said or f'HTTP {status}'}")
    return ModelFailed(
        f"The endpoint of model {name!r} failed (HTTP {status}).",
        hint="Try again; if it persists, an administrator must look at the endpoint.",
        reason=said,
    )


def engine_message(content: bytes) -> str:
    """The words in an engine's error body, whichever of the usual forms it has."""
    try:
        value: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return ""
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = cast("dict[str, Any]", value)[key]
    return value[:LONGEST_MESSAGE] if isinstance(value, str) else ""


def _seconds(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("retry-after", "1")), 0), 3600)
    except ValueError:
        return 1.0
