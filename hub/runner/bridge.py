"""A stdio server as MCP over HTTP, in each era that it speaks: one process per era, isolation key and replica.

Decides which process a POST belongs to. A server that is asked `server/discover` first and answers is modern; its
legacy side, if it has one, gets a process of its own, because servers lock their era with the first request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from hub.errors import BadRequest, Conflict, HubError, NotFound, TooMany, UpstreamDown
from hub.runner import jsonrpc
from hub.runner.childlog import ChildLog
from hub.runner.http import Disconnected, answer, header, read_body
from hub.runner.jsonrpc import Message
from hub.runner.legacy import INITIALIZE, LegacyPeer, handshake_failed
from hub.runner.modern import DISCOVER, ModernPeer, refuse, speaks_modern
from hub.runner.pipe import Pipe
from hub.runner.process import Process
from hub.runner.replica import Replica
from hub.runner.spec import Bounds, ChildSpec

SILENCE_SECONDS = 8.0
"""A server that has not answered `server/discover` by then is greeted in the old way too; slow starters are common."""

PRINCIPAL = b"x-entrepot-principal"


class NotModern(Exception):
    """The server does not speak 2026-07-28."""


class NotLegacy(Exception):
    """The server speaks 2026-07-28 only."""


@dataclass
class Peers:
    """The processes of one isolation key."""

    legacy: list[LegacyPeer] = field(default_factory=list[LegacyPeer])
    modern: list[ModernPeer] = field(default_factory=list[ModernPeer])

    @property
    def idle(self) -> bool:
        """Whether nobody uses them and nothing runs."""
        replicas = [peer.replica for peer in (*self.legacy, *self.modern)]
        sessions = any(peer.sessions for peer in self.legacy)
        return not sessions and all(not replica.busy and not replica.alive for replica in replicas)


class Bridge:
    """The HTTP face of one stdio child."""

    def __init__(
        self,
        name: str,
        spec: ChildSpec,
        start: Callable[[], Awaitable[Process]],
        log: ChildLog,
        starts: asyncio.Semaphore,
        bounds: Bounds,
    ) -> None:
        self._name = name
        self._spec = spec
        self._wanted = spec.replicas
        self._start = start
        self._log = log
        self._starts = starts
        self._bounds = bounds
        self._peers: dict[str, Peers] = {}
        self._sessions: dict[str, LegacyPeer] = {}
        self._is_modern: bool | None = None
        self._is_legacy = True
        """Until a modern server refuses a handshake: it need not be started for each look at it."""
        self._spare: tuple[Pipe, Message | None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to `/s/{name}/mcp`."""
        request_id: Any = None
        try:
            if path != "/mcp":
                raise NotFound(f"server {self._name!r} is served at /mcp")
            match scope["method"]:
                case "POST":
                    body = await read_body(receive, self._bounds.line_bytes)
                    message = parsed(body)
                    request_id = message.get("id")
                    await self._post(message, body, scope, receive, send)
                case "GET":
                    await self._listen(scope, receive, send)
                case "DELETE":
                    peer, session_id = self._session(scope)
                    self._end(peer, session_id)
                    await answer(send, 200)
                case _:
                    await answer(send, 405, extra=[(b"allow", b"POST, GET, DELETE")])
        except Disconnected:
            return
        except HubError as fault:
            await refuse(send, request_id, fault)

    @property
    def replicas(self) -> list[Replica[Pipe]]:
        """Every process slot."""
        return [
            peer.replica for peers in self._peers.values() for side in (peers.modern, peers.legacy) for peer in side
        ]

    async def warm(self) -> None:
        """Start it before it is asked for, in the newest era that it speaks. Raises UpstreamDown."""
        peers = self._of("")
        try:
            await asyncio.gather(*(peer.replica.open() for peer in peers.modern))
        except NotModern:
            await asyncio.gather(*(peer.replica.open() for peer in peers.legacy))

    def scale(self, wanted: int) -> None:
        """Set the number of replicas; sessions of those that go are ended."""
        self._wanted = wanted
        for peers in self._peers.values():
            self._fit(peers)

    async def close(self) -> None:
        """End every process. Returns when all are gone."""
        await asyncio.gather(*(replica.close() for replica in self.replicas), self._drop_spare(), *self._closing)

    async def sweep(self, idle_before: float | None) -> None:
        """Forget stale sessions, stop what has been idle since `idle_before` (monotonic; None: nothing)."""
        for peers in self._peers.values():
            for peer in peers.legacy:
                for session in peer.idle_sessions():
                    self._end(peer, session.id)
        if idle_before is None:
            return
        await self._drop_spare()
        for key, peers in list(self._peers.items()):
            unneeded = [peer.replica for peer in peers.modern]
            unneeded += [peer.replica for peer in peers.legacy if not peer.needed]
            for replica in unneeded:
                if replica.alive and not replica.busy and replica.last_used < idle_before:
                    await replica.close(final=False)
            if key and peers.idle:
                del self._peers[key]

    async def _post(self, message: Message, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if self._wanted == 0:
            raise UpstreamDown(f"server {self._name!r} is scaled to no replica", hint="give it at least one")
        version = header(scope, b"mcp-protocol-version")
        if (version and version not in jsonrpc.LEGACY) or jsonrpc.VERSION_KEY in jsonrpc.meta_of(message):
            await self._post_modern(message, body, scope, receive, send)
        elif message.get("method") == "initialize":
            if len(self._sessions) >= self._bounds.sessions:
                raise TooMany(f"server {self._name!r} has too many sessions", hint="end some")
            key = self._key(scope)
            peer = min(self._of(key).legacy, key=lambda one: len(one.sessions))
            try:
                session = await peer.initialize(message, key, send)
            except NotLegacy:
                raise BadRequest(f"server {self._name!r} speaks 2026-07-28 only") from None
            self._sessions[session.id] = peer
        else:
            peer, session_id = self._session(scope)
            await peer.serve(peer.sessions[session_id], message, body, receive, send)

    async def _post_modern(self, message: Message, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        peer = min(self._of(self._key(scope)).modern, key=lambda one: one.replica.busy)
        try:
            await peer.serve(message, body, receive, send)
        except NotModern:
            raise BadRequest(
                f"server {self._name!r} speaks legacy revisions only", hint="begin with initialize"
            ) from None

    async def _listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer, session_id = self._session(scope)
        session = peer.sessions[session_id]
        if session.listening:
            raise Conflict("this session has its stream already", hint="close the other one first")
        await peer.stream(session, receive, send)

    def _session(self, scope: Scope) -> tuple[LegacyPeer, str]:
        session_id = header(scope, b"mcp-session-id")
        if not session_id:
            raise BadRequest("Missing session ID", hint="begin with initialize")
        peer = self._sessions.get(session_id)
        if peer is None or peer.sessions[session_id].principal != self._key(scope):
            raise NotFound("there is no such session", hint="begin with initialize")
        return peer, session_id

    def _end(self, peer: LegacyPeer, session_id: str) -> None:
        self._sessions.pop(session_id, None)
        if session_id in peer.sessions:
            peer.end(peer.sessions[session_id])

    def _key(self, scope: Scope) -> str:
        # Without the header it is the hub that asks, for itself: discovery has a process of its own.
        return header(scope, PRINCIPAL) if self._spec.isolation == "per-principal" else ""

    def _of(self, key: str) -> Peers:
        peers = self._peers.get(key)
        if peers is None:
            if len(self._peers) >= self._bounds.isolated:
                raise TooMany(f"server {self._name!r} serves too many principals at a time", hint="try again later")
            peers = self._peers[key] = Peers()
            self._fit(peers)
        return peers

    def _fit(self, peers: Peers) -> None:
        while len(peers.modern) < self._wanted:
            peers.modern.append(ModernPeer(self._replica, self._open_modern, self._bounds))
            peers.legacy.append(LegacyPeer(self._replica, self._open_legacy, self._bounds))
        while len(peers.modern) > self._wanted:
            legacy = peers.legacy.pop()
            for session_id in list(legacy.sessions):
                self._end(legacy, session_id)
            for replica in (legacy.replica, peers.modern.pop().replica):
                task = asyncio.create_task(replica.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _replica(self, opener: Callable[[], Awaitable[Pipe]]) -> Replica[Pipe]:
        return Replica(self._name, opener, self._starts)

    async def _open_modern(self) -> Pipe:
        if self._is_modern is False:
            raise NotModern
        pipe = await self._new_pipe()
        try:
            modern, initialized = await self._greet(pipe)
        except BaseException:
            await asyncio.shield(pipe.stop())
            raise
        if modern:
            self._is_modern = True
            return pipe
        self._is_modern = False
        await self._drop_spare()
        self._spare = (pipe, initialized)
        raise NotModern

    async def _greet(self, pipe: Pipe) -> tuple[bool, Message | None]:
        """Whether the server is modern; if it had to be initialized to find out, its answer to that."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._spec.start_seconds
        discovering = asyncio.create_task(pipe.ask("server/discover", DISCOVER, self._spec.start_seconds))
        initializing: asyncio.Task[Message] | None = None
        try:
            await asyncio.wait([discovering], timeout=min(SILENCE_SECONDS, self._spec.start_seconds / 2))
            if not discovering.done():
                initializing = asyncio.create_task(pipe.ask("initialize", INITIALIZE, self._spec.start_seconds))
                await asyncio.wait(
                    [discovering, initializing], timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
            if discovering.done():
                response = self._heard(pipe, discovering)
                return speaks_modern(response), None
            if initializing is not None and initializing.done():
                return False, self._heard(pipe, initializing)
            raise self._mute(pipe)
        finally:
            discovering.cancel()
            if initializing is not None:
                initializing.cancel()

    async def _open_legacy(self) -> tuple[Pipe, Message]:
        if not self._is_legacy:
            raise NotLegacy
        spare, self._spare = self._spare, None
        if spare is not None and not spare[0].process.ended.is_set():
            pipe, response = spare
        else:
            pipe, response = await self._new_pipe(), None
        try:
            if response is None:
                asking = asyncio.create_task(pipe.ask("initialize", INITIALIZE, self._spec.start_seconds))
                await asyncio.wait([asking])
                response = self._heard(pipe, asking)
            if not isinstance(response.get("result"), dict):
                if self._is_modern and "error" in response:
                    self._is_legacy = False
                    raise NotLegacy
                if response.get("error", {}).get("code") == -32022:
                    self._is_modern = None  # it speaks the modern era after all
                raise handshake_failed(self._name, response)
        except BaseException:
            await asyncio.shield(pipe.stop())
            raise
        return pipe, response["result"]

    def _heard(self, pipe: Pipe, task: asyncio.Task[Message]) -> Message:
        """The response, or what its absence means."""
        try:
            response = task.result()
        except TimeoutError:
            raise self._mute(pipe) from None
        if pipe.process.ended.is_set():
            raise UpstreamDown(
                f"server {self._name!r} ended at once (exit code {pipe.process.code})",
                hint="its last words are in data.stderr; check the command and its environment",
                data={"stderr": pipe.process.last_words()},
            )
        return response

    def _mute(self, pipe: Pipe) -> UpstreamDown:
        return UpstreamDown(
            f"server {self._name!r} did not answer initialize within {self._spec.start_seconds:.0f} s",
            hint="its last words are in data.stderr; check that it is an MCP server on stdio",
            data={"stderr": pipe.process.last_words()},
        )

    async def _new_pipe(self) -> Pipe:
        return Pipe(self._name, await self._start(), self._log, self._bounds)

    async def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare[0].stop()


def parsed(body: bytes) -> Message:
    """The single JSON-RPC message of a POST. Raises BadRequest."""
    try:
        message: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("the body is not JSON", hint=str(error)) from error
    if not isinstance(message, dict) or not (isinstance(message.get("method"), str) or "id" in message):  # pyright: ignore[reportUnknownMemberType]
        raise BadRequest("the body is not one JSON-RPC message")
    return message  # pyright: ignore[reportUnknownVariableType]
