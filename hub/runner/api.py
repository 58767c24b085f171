"""The runner's API over its socket: children, their faces, sandboxes. Whoever may open the socket may do all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Receive, Scope, Send

from hub.errors import HubError, InvalidParams, NotFound
from hub.runner.engines import EngineSpec, engine_child
from hub.runner.http import Disconnected, Gone, answer, answer_json, problem, read_body
from hub.runner.sandbox.base import Bind, Limits, Profile, Sandbox
from hub.runner.sandbox.profiles import profile_named
from hub.runner.sandbox.run import Exit, Output, run_sandboxed
from hub.runner.spec import NAME, ChildSpec, ReplicasBody
from hub.runner.supervisor import Supervisor
from hub.runner.weights import WeightStore

BODY_BYTES = 32 * 2**20
HEADERS_SECONDS = 0.5
"""How long the headers of a sandbox's answer wait for its first output: time enough for a launch to be refused."""
ENGINE_MODULES = {("-m", "hub.runner.llama"), ("-m", "hub.runner.embedder")}


class BindBody(BaseModel):
    """A file or folder that the sandbox sees."""

    model_config = ConfigDict(extra="forbid")

    source: Path
    target: Path
    writable: bool = False


class LimitsBody(BaseModel):
    """Bounds that replace those of the profile; bytes and seconds."""

    model_config = ConfigDict(extra="forbid")

    memory: int | None = Field(None, gt=0)
    processes: int | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)
    cpu_seconds: int | None = Field(None, gt=0)
    disk: int | None = Field(None, gt=0)
    output: int | None = Field(None, gt=0)

    def on(self, profile: Profile) -> Limits:
        """The profile's limits with these instead where given."""
        base = profile.limits
        return Limits(
            memory_bytes=self.memory or base.memory_bytes,
            processes=self.processes or base.processes,
            seconds=self.seconds or base.seconds,
            cpu_seconds=self.cpu_seconds or base.cpu_seconds,
            disk_bytes=self.disk or base.disk_bytes,
            files=base.files,
            output_bytes=self.output or base.output_bytes,
        )


class SandboxBody(BaseModel):
    """Body of `POST /sandboxes`."""

    model_config = ConfigDict(extra="forbid")

    profile: str
    argv: list[str] = Field(min_length=1)
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    binds: list[BindBody] = []
    limits: LimitsBody = LimitsBody.model_validate({})
    cwd: Path | None = None


class Api:
    """The ASGI application."""

    def __init__(self, supervisor: Supervisor, sandbox: Sandbox, weights: WeightStore) -> None:
        self._weights = weights
        self._supervisor = supervisor
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except Disconnected:
            return
        except HubError as fault:
            await problem(send, fault)
        except ValidationError as fault:
            told = [{"at": list(error["loc"]), "problem": error["msg"]} for error in fault.errors(include_input=False)]
            await problem(send, InvalidParams("the body does not fit", data={"errors": told}))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        match path.split("/")[1:]:
            case ["s", name, *rest]:
                await self._supervisor.child(name).serve("/" + "/".join(rest), scope, receive, send)
            case ["readyz"] if method == "GET":
                await answer_json(send, 200, {"ready": True})
            case ["children"] if method == "GET":
                await answer_json(send, 200, {"children": self._supervisor.describe()})
            case ["children", name] if method == "GET":
                await answer_json(send, 200, self._supervisor.child(name).describe())
            case ["children", name] if method == "PUT":
                NAME.validate_python(name)
                child = await self._supervisor.want(name, ChildSpec.model_validate_json(await body_of(receive)))
                await answer_json(send, 200, child.describe())
            case ["children", name] if method == "DELETE":
                await self._supervisor.forget(name)
                await answer(send, 204)
            case ["children", name, "restart"] if method == "POST":
                await self._supervisor.restart(name)
                await answer_json(send, 200, self._supervisor.child(name).describe())
            case ["children", name, "replicas"] if method == "PUT":
                wanted = ReplicasBody.model_validate_json(await body_of(receive)).replicas
                await answer_json(send, 200, (await self._supervisor.scale(name, wanted)).describe())
            case ["engines"] if method == "GET":
                await answer_json(send, 200, {"engines": self._supervisor.describe(is_engine)})
            case ["engines", name] if method == "PUT":
                NAME.validate_python(name)
                engine = EngineSpec.model_validate_json(await body_of(receive))
                child = await self._supervisor.want(name, engine_child(engine, self._weights))
                await answer_json(send, 200, child.describe())
            case ["sandboxes"] if method == "POST":
                await self._run_sandboxed(SandboxBody.model_validate_json(await body_of(receive)), receive, send)
            case _:
                raise NotFound(f"the runner has nothing at {method} {path}")

    async def _run_sandboxed(self, body: SandboxBody, receive: Receive, send: Send) -> None:
        profile = profile_named(body.profile)
        pieces = run_sandboxed(
            self._sandbox,
            body.argv,
            profile=profile,
            env=body.env,
            files=body.files,
            binds=[Bind(bind.source, bind.target, bind.writable) for bind in body.binds],
            limits=body.limits.on(profile),
            cwd=body.cwd,
        )
        async with contextlib.aclosing(pieces):
            await stream_pieces(pieces, receive, send)


def is_engine(spec: ChildSpec) -> bool:
    """Whether the child is one of our local engines."""
    return spec.sandbox == "trusted" and spec.command[1:3] in ENGINE_MODULES


async def body_of(receive: Receive) -> bytes:
    """The request's body, within the API's bound."""
    return await read_body(receive, BODY_BYTES)


async def stream_pieces(pieces: AsyncGenerator[Output | Exit, None], receive: Receive, send: Send) -> None:
    """Send what a sandbox says as JSON lines until it ends or the client leaves.

    What the launch refuses is raised before anything is sent. A quiet command's client is not kept waiting for headers,
    and its leaving is seen at once.
    """
    first = asyncio.create_task(first_of(pieces))
    try:
        await asyncio.wait([first], timeout=HEADERS_SECONDS)
        if first.done() and first.exception() is not None:
            first.result()
        await stream_from(first, pieces, receive, send)
    finally:
        if not first.done():
            first.cancel()
            await asyncio.wait([first])


async def first_of(pieces: AsyncGenerator[Output | Exit, None]) -> Output | Exit:
    """The first piece, as a coroutine of its own."""
    return await anext(pieces)


async def stream_from(
    first: asyncio.Task[Output | Exit], pieces: AsyncGenerator[Output | Exit, None], receive: Receive, send: Send
) -> None:
    """Headers now, the first piece when it comes, then the rest."""
    left = asyncio.Event()
    async with Gone(receive, left.set):
        headers = [(b"content-type", b"application/jsonl"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # An empty piece of body: servers hold headers back until there is some.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        sending = asyncio.create_task(send_pieces(first, pieces, send))
        leaving = asyncio.create_task(left.wait())
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.wait([sending])  # the generator must be at rest before it is closed
    if not sending.cancelled():
        sending.result()


async def send_pieces(
    first: asyncio.Task[Output | Exit], pieces: AsyncGenerator[Output | Exit, None], send: Send
) -> None:
    """Send all pieces and end the answer."""
    await send_piece(send, await first)
    async for piece in pieces:
        await send_piece(send, piece)
    await send({"type": "http.response.body", "body": b""})


async def send_piece(send: Send, piece: Output | Exit) -> None:
    """One JSON line."""
    line = (
        {"stream": piece.stream, "text": piece.text}
        if isinstance(piece, Output)
        else {"exit": piece.code, "reason": piece.reason}
    )
    await send(
        {"type": "http.response.body", "body": orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), "more_body": True}
    )
