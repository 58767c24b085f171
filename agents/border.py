"""A run's only way out: an HTTP face on a socket of its own for models, tools and the result.

Requests are answered one at a time, in the order in which they come: that order is what a resumed run replays.
What a request may do is decided by the `Desk` that serves them; this room knows HTTP and the OpenAI form only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from agents.runs.toolbox import Toolbox
from agents.wire.face import Face, Progress, ToolCall, read_body
from agents.wire.shapes import listing, mapping
from hub.errors import BadRequest, HubError, InvalidParams, NotFound

MODEL_PATHS = ("/v1/chat/completions", "/v1/embeddings")
LARGEST_REQUEST = 8 * 2**20


class Desk(Protocol):
    """Who answers what comes over a border."""

    async def model(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a model request: status and JSON."""
        ...

    async def tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a tool call with a result."""
        ...

    async def result(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take the run's result; says `{"accepted": bool, "fault": str}`."""
        ...

    def job(self) -> dict[str, Any]:
        """What the built-in loop needs to know to begin."""
        ...


class Border:
    """The ASGI app of one run's border."""

    def __init__(self, desk: Desk, toolbox: Toolbox) -> None:
        self._desk = desk
        self._model = toolbox.model
        self._tools = Face(_RunTools(desk, toolbox), name="entrepot-run", version="1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/mcp":
            await self._tools(scope, receive, send)
            return
        try:
            await self._serve(scope["method"], path, receive, send)
        except HubError as error:
            told = {"error": {"message": error.message, "type": error.code, "code": error.code}}
            await _reply(send, error.status, orjson.dumps(told))

    async def _serve(self, method: str, path: str, receive: Receive, send: Send) -> None:
        match method, path:
            case "GET", "/job":
                await _reply(send, 200, orjson.dumps(self._desk.job()))
            case "GET", "/v1/models":
                listed = {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "entrepot"}]}
                await _reply(send, 200, orjson.dumps(listed))
            case "POST", "/result":
                verdict = await self._desk.result(await _json(receive))
                await _reply(send, 200 if verdict.get("accepted") else 422, orjson.dumps(verdict))
            case "POST", path if path in MODEL_PATHS:
                await self._answer_model(path, await _json(receive), send)
            case _:
                raise NotFound(f"There is nothing at {path}.")

    async def _answer_model(self, path: str, body: dict[str, Any], send: Send) -> None:
        streamed = bool(body.pop("stream", False))
        body.pop("stream_options", None)
        status, answer = await self._desk.model(path, body)
        if streamed and status == 200:
            await _reply(send, 200, as_stream(answer), "text/event-stream")
            return
        await _reply(send, status, orjson.dumps(answer))


class _RunTools:
    """The tools of a run, behind the small MCP face."""

    def __init__(self, desk: Desk, toolbox: Toolbox) -> None:
        self._desk = desk
        self._toolbox = toolbox

    async def tools(self) -> list[dict[str, Any]]:
        """Their definitions under the names that the run sees."""
        return [tool.definition | {"name": tool.shown} for tool in self._toolbox.tools]

    async def call(self, call: ToolCall, progress: Progress) -> dict[str, Any]:
        """One step of the run."""
        return await self._desk.tool(call.name, call.arguments)

    async def task(self, verb: str, task: str, caller: Mapping[str, Any]) -> dict[str, Any]:
        """A run's tools never answer with a task."""
        raise InvalidParams("There is no such task.")


def as_stream(answer: dict[str, Any]) -> bytes:
    """A whole chat completion in streamed form: the journal keeps whole answers, clients may want pieces."""
    choices = [
        {
            "index": choice.get("index", 0),
            "delta": _delta(mapping(choice.get("message"))),
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in map(mapping, listing(answer.get("choices")))
    ]
    chunk = answer | {"object": "chat.completion.chunk", "choices": choices}
    return b"data: " + orjson.dumps(chunk) + b"\n\ndata: [DONE]\n\n"


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    calls = [call | {"index": index} for index, call in enumerate(map(mapping, listing(message.get("tool_calls"))))]
    return message | ({"tool_calls": calls} if calls else {})


@asynccontextmanager
async def listening(app: ASGIApp, path: Path) -> AsyncGenerator[None]:
    """Serve `app` on a socket at `path` until the end; connections left open are closed then."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    config = uvicorn.Config(
        app, interface="asgi3", lifespan="off", log_config=None, access_log=False, ws="none", http="httptools"
    )
    config.load()
    state = ServerState()

    def protocol() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]

    server = await asyncio.get_running_loop().create_unix_server(protocol, str(path))
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        path.unlink(missing_ok=True)


async def _json(receive: Receive) -> dict[str, Any]:
    try:
        body = orjson.loads(await read_body(receive, LARGEST_REQUEST))
    except orjson.JSONDecodeError as error:
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body is not an object.")
    return mapping(body)  # pyright: ignore[reportUnknownArgumentType]


async def _reply(send: Send, status: int, body: bytes, kind: str = "application/json") -> None:
    head = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
