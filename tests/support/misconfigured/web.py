"""Servers over HTTP that are wrong in one way each: real sockets on this machine."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import orjson

from tests.support.misconfigured.certificates import Authority
from tests.support.misconfigured.mcp import TOOL, Asked, Mcp, acknowledged, nothing, zipped
from tests.support.upstreams import Behaviour, Exchange, RawServer

Declared = dict[str, Any]
LISTENS = {"tools": {"listChanged": True}}
PRM = "/.well-known/oauth-protected-resource"
AS = "/.well-known/oauth-authorization-server"
GOOD_AS = {
    "authorization_endpoint": "https://login.test/authorize",
    "token_endpoint": "https://login.test/token",
    "registration_endpoint": "https://login.test/register",
    "code_challenge_methods_supported": ["S256"],
}


@asynccontextmanager
async def served(behaviour: Behaviour, path: str = "/mcp", **declared: Any) -> AsyncGenerator[Declared]:
    """A server that behaves so, declared by its URL."""
    async with RawServer(behaviour) as server:
        yield {"url": server.url.removesuffix("/mcp") + path} | declared


@asynccontextmanager
async def secured(authority: Authority, scheme: str = "https", **certificate: Any) -> AsyncGenerator[Declared]:
    """A good server behind such a certificate."""
    async with RawServer(Mcp(), authority.context(**certificate)) as server:
        yield {"url": server.url.replace("https://", f"{scheme}://")}


@asynccontextmanager
async def only(**declared: Any) -> AsyncGenerator[Declared]:
    """Nothing runs."""
    yield declared


@asynccontextmanager
async def plain_as_tls(behaviour: Behaviour | None = None) -> AsyncGenerator[Declared]:
    """A server over plain HTTP, declared as https; a good one unless told otherwise."""
    async with RawServer(behaviour or Mcp()) as server:
        yield {"url": server.url.replace("http://", "https://")}


@asynccontextmanager
async def described(behaviour: Behaviour) -> AsyncGenerator[Declared]:
    """What should be an API that describes itself."""
    async with RawServer(behaviour) as server:
        yield {"openapi": server.url.removesuffix("/mcp") + "/openapi.json"}


@asynccontextmanager
async def unheard() -> AsyncGenerator[Declared]:
    """A port whose connections are never taken: its queue is full, as behind a firewall that drops packets."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting: list[socket.socket] = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        waiting.append(one)
    try:
        yield {"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}
    finally:
        for one in (*waiting, listener):
            one.close()


@asynccontextmanager
async def greeting_first(banner: bytes) -> AsyncGenerator[Declared]:
    """Something that does not speak HTTP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        await reader.read(10_000)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"}
    finally:
        server.close()


def always(
    status: int, body: bytes = b"", kind: str = "text/plain", more: dict[str, str] | None = None
) -> Callable[[Asked], Awaitable[bool]]:
    """The same answer to everything."""

    async def before(asked: Asked) -> bool:
        await asked.reply(status, body, kind, more)
        return True

    return before


async def says_nothing(one: Exchange) -> None:
    """Takes the request, and that is all."""
    await asyncio.Event().wait()


async def hangs_up(one: Exchange) -> None:
    """Closes at once."""
    one.close()


async def wants_its_origin(asked: Asked) -> bool:
    """Refuses all who do not say where they come from."""
    if "origin" in asked.headers:
        return False
    await asked.reply(403, b"Forbidden", "text/plain")
    return True


def protected(
    challenge: str = "Bearer", web: dict[str, Any] | None = None, token: str = "right"
) -> Callable[[Asked], Awaitable[bool]]:
    """Wants a bearer token; `web` is what is at other paths, a string in it has HOST put in."""

    async def before(asked: Asked) -> bool:
        host = asked.headers["host"]
        told = (web or {}).get(asked.path)
        if told is not None:
            body = told if isinstance(told, bytes) else orjson.dumps(told)
            await asked.reply(200, body.replace(b"HOST", host.encode()))
            return True
        if asked.headers.get("authorization") == f"Bearer {token}":
            return False
        if asked.path != "/mcp":
            await nothing(asked)
            return True
        more = {"www-authenticate": challenge.replace("HOST", host)} if challenge else {}
        await asked.reply(401, b"", more=more)
        return True

    return before


def files(web: dict[str, Any]) -> Callable[[Asked], Awaitable[bool]]:
    """Some paths that answer, and nothing else."""

    async def before(asked: Asked) -> bool:
        told = web.get(asked.path)
        await (nothing(asked) if told is None else asked.reply(200, orjson.dumps(told)))
        return True

    return before


def metadata(issuer: str = "http://HOST", resource: str = "http://HOST/mcp") -> dict[str, Any]:
    """Protected-resource metadata."""
    return {"resource": resource, "authorization_servers": [issuer]}


def signs_in(changed: dict[str, Any], issuer: str = "http://HOST") -> Mcp:
    """A protected server whose authorization server says these things otherwise."""
    told = {key: value for key, value in (GOOD_AS | {"issuer": issuer} | changed).items() if value is not None}
    return Mcp(before=protected(web={PRM + "/mcp": metadata(issuer), AS: told}))


def answering(method: str, result: Any, **more: Any) -> Mcp:
    """A server that gives this result to one method."""

    async def answer(asked: Asked) -> None:
        await asked.result(result)

    return Mcp(own={method: answer}, **more)


def failing(method: str, code: int, text: str, status: int = 200, **more: Any) -> Mcp:
    """A server that answers one method with an error."""

    async def answer(asked: Asked) -> None:
        await asked.error(code, text, status)

    return Mcp(own={method: answer}, **more)


def pages(cursors: dict[str | None, str]) -> Mcp:
    """A legacy server whose list goes from cursor to cursor so."""

    async def answer(asked: Asked) -> None:
        params: dict[str, Any] = asked.message.get("params") or {}
        cursor: str | None = params.get("cursor")
        await asked.result({"tools": [TOOL | {"name": f"act_{cursor}"}], "nextCursor": cursors[cursor]})

    return Mcp(eras=("legacy",), own={"tools/list": answer})


def slowly(seconds: float) -> Mcp:
    """A legacy server that takes its time for a list."""

    async def answer(asked: Asked) -> None:
        await asyncio.sleep(seconds)
        await asked.result({"tools": [TOOL]})

    return Mcp(eras=("legacy",), own={"tools/list": answer})


async def forgets(asked: Asked) -> bool:
    """Another replica than the one that opened the session."""
    if "mcp-session-id" not in asked.headers or asked.method == "DELETE":
        return False
    await asked.error(-32001, "Session not found", 404)
    return True


async def leaks(asked: Asked) -> None:
    more = {"mcp-session-id": "leaked"}
    await asked.error(-32600, "Bad Request: Missing session ID", 400, more)


async def claims(asked: Asked) -> None:
    await asked.error(-32022, "Unsupported protocol version", 400)


async def other_id(asked: Asked) -> None:
    told: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}}
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": str(asked.message["id"]), "result": told}
    await asked.reply(200, orjson.dumps(body))


async def refuses(asked: Asked) -> None:
    await asked.error(-32601, "Method not found", 400)


async def as_text(asked: Asked) -> None:
    told: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}}
    await asked.result(told, kind="text/plain")


async def as_gzip(asked: Asked) -> bool:
    await asked.reply(200, zipped(asked), more={"content-encoding": "gzip"})
    return True


async def held_back(asked: Asked) -> None:
    """A proxy that waits for the end of a stream before it hands on the first byte of it."""
    await asyncio.Event().wait()


async def cut(asked: Asked) -> None:
    """A proxy that cuts what is silent for a second."""
    await asked.stream(acknowledged(asked))
    await asyncio.sleep(1.2)
    asked.one.reset()


def far_off(hours: int) -> Mcp:
    """A server whose clock is wrong."""
    return Mcp(more={"date": formatdate(hours * 3600 + time.time(), usegmt=True)})


def large(number: int) -> list[dict[str, Any]]:
    """Many tools."""
    return [TOOL | {"name": f"act_{index}"} for index in range(number)]
