"""Answers of a server as bytes: good ones to whatever is asked, bent in their JSON, their stream or their framing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
import orjson

from hub.errors import HubError
from hub.upstream.address import Address
from hub.upstream.probe import survey
from hub.upstream.terms import Deadlines, Terms
from tests.fuzz import values
from tests.support.hub import META, RunningHub

TERMS = Terms(Deadlines(connect=2, list=1), answer_bytes=200_000)
SURVEY_SECONDS = 30.0
"""For one look: each of its few exchanges is bounded by `TERMS`."""

TOOL = {"name": "a", "inputSchema": {"type": "object", "properties": {"x": {"type": "string", "x-mcp-header": "X"}}}}
RESULTS: dict[str, dict[str, Any]] = {
    "server/discover": {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}, "resources": {}},
        "ttlMs": 0,
    },
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "prompts": {}}, "serverInfo": {}},
    "tools/list": {"tools": [TOOL, TOOL], "nextCursor": "x"},
    "tools/call": {"content": [], "structuredContent": {"a": 1}, "resultType": "complete"},
    "resources/list": {"resources": [{"uri": "a:b", "name": "n"}]},
    "prompts/list": {"prompts": [{"name": "p"}]},
}
STATUSES = (200, 200, 200, 200, 202, 204, 301, 400, 401, 404, 405, 421, 500, 503, 100, 99, 999)


def drawn(rng: Random, body: bytes) -> bytes:
    """The bytes that answer one request."""
    try:
        asked: Any = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        asked = {}
    method = asked.get("method", "")
    result = dict(RESULTS.get(method, {}))
    if "nextCursor" in result and rng.random() < 0.6:
        del result["nextCursor"]
    tree: Any = {"jsonrpc": "2.0", "id": asked.get("id"), "result": result}
    if method == "tools/call" and (draw := rng.random()) < 0.5:
        tree["result"] = rng.choice(QUESTIONS)
        if draw < 0.25:
            del tree["result"]
            tree["error"] = rng.choice(COMPLAINTS)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        if isinstance(tree, dict):
            tree = values.bent(rng, tree)
    told = values.written(tree)
    status = rng.choice(STATUSES) if rng.random() < 0.4 else 200
    head = [b"HTTP/1.1 %d X" % status]
    if rng.random() < 0.3:
        told = b"".join(
            rng.choice((b"", b": c\r\n\r\n", b"event: message\r\n", b"id: 1\r\ndata: \r\n\r\n", b"data: {}\r\n\r\n"))
            + b"data: " + told + rng.choice((b"\r\n\r\n", b"\n\n", b"\r\r", b""))
            for _ in range(rng.choice((1, 1, 2)))
        )  # fmt: skip
        head.append(b"content-type: text/event-stream")
    else:
        head.append(rng.choice((b"content-type: application/json", b"content-type: text/html", b"x: " + b"y" * 70_000)))
    head.append(
        rng.choice((b"mcp-session-id: s", b"mcp-session-id: \xff", b"x: y", b"location: /x", b"connection: close"))
    )
    return _framed(rng, head, told)


QUESTIONS: tuple[dict[str, Any], ...] = (
    {
        "resultType": "input_required",
        "inputRequests": {"q": {"method": "elicitation/create", "params": {"mode": "form"}}},
    },
    {"resultType": "input_required", "requestState": "s", "inputRequests": {"q": {"method": "roots/list"}}},
    {"resultType": "task", "task": {"taskId": "t"}},
)
COMPLAINTS: tuple[dict[str, Any], ...] = (
    {
        "code": -32042,
        "message": "go",
        "data": {"elicitations": [{"mode": "url", "url": "https://x.test", "message": "m"}]},
    },
    {"code": -32602, "message": "no", "data": {"supported": ["x"]}},
    {"code": -32002, "message": "gone"},
    {"code": -32021, "message": "can", "data": {"requiredCapabilities": {}}},
)


def _framed(rng: Random, head: list[bytes], told: bytes) -> bytes:
    draw = rng.random()
    if draw < 0.6:
        head.append(b"content-length: %d" % len(told))
    elif draw < 0.75:
        head.append(b"transfer-encoding: chunked")
        told = b"%x\r\n%b\r\n0\r\n\r\n" % (len(told), told)
    elif draw < 0.85:
        head.append(b"content-length: %d" % rng.choice((0, 1, len(told) + 5, 10**12)))
    elif draw < 0.9:
        head.append(
            rng.choice((b"content-length: -1", b"transfer-encoding: gzip", b"content-encoding: gzip", b"\xff: a"))
        )
    raw = b"\r\n".join(head) + b"\r\n\r\n" + told
    if rng.random() < 0.1:
        raw = raw[: rng.randrange(len(raw))]
    if rng.random() < 0.05:
        at = rng.randrange(len(raw))
        raw = raw[:at] + rng.randbytes(3) + raw[at:]
    return raw


@dataclass
class Liar:
    """A server whose answers are drawn, or right while it is `honest`."""

    url: str = ""
    honest: bool = False


def told_honestly(body: bytes) -> bytes:
    """The bytes that answer one request as they should."""
    asked: Any = orjson.loads(body) if body else {}
    result = {key: value for key, value in RESULTS.get(asked.get("method", ""), {}).items() if key != "nextCursor"}
    told = orjson.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": result})
    status = b"200 OK" if "id" in asked else b"202 Accepted"
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nmcp-session-id: s\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(told)) + told


@asynccontextmanager
async def lying(rng: Random, *, honest: bool = False) -> AsyncGenerator[Liar]:
    """Such a server."""
    liar = Liar(honest=honest)
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(found[0][15:]) if found else 0)
                writer.write(told_honestly(body) if liar.honest else drawn(rng, body))
                await writer.drain()
                if not liar.honest and rng.random() < 0.4:
                    break
        writer.close()
        writers.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        liar.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        yield liar
    finally:
        server.close()
        for writer in list(writers):
            writer.transport.abort()


async def looked_at(rng: Random) -> str:
    """Look at a server that lies. What was wrong with how the look ended, else nothing."""
    async with lying(rng) as liar:
        try:
            async with asyncio.timeout(SURVEY_SECONDS):
                await survey(Address(liar.url), "auto", TERMS)
        except HubError:
            return ""
        except TimeoutError:
            return f"the look did not end in {SURVEY_SECONDS:.0f} s"
        except Exception as error:  # noqa: BLE001 - which one it is, is the finding
            return f"{type(error).__name__}: {error}"[:300]
    return ""


ONCE = {"connection": "close"}
"""Else a connection may be used again in the moment in which the hub closes it for being idle."""

CALL: dict[str, Any] = {"name": "a", "arguments": {"x": "1"}}


async def called(running: RunningHub, liar: Liar, number: int) -> str:
    """Call the liar's tool through a hub, in one era or the other. What was wrong with the answer, else nothing."""
    try:
        answer = await (_called_modern(running) if number % 2 else _called_legacy(running, number))
    except httpx.TimeoutException:
        return "no answer in the client's patience"
    except httpx.HTTPError as error:
        return f"the answer broke off: {type(error).__name__}"
    if answer.status_code >= 500 or b"The hub failed" in answer.content:
        return f"HTTP {answer.status_code} {answer.text[:300]}"
    return ""


async def _called_modern(running: RunningHub) -> httpx.Response:
    capabilities: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
    meta: dict[str, Any] = {f"{META}clientCapabilities": capabilities}
    return await running.modern("tools/call", CALL, meta=meta, headers={"mcp-param-x": "1"} | ONCE, path="/mcp/s/liar")


async def _called_legacy(running: RunningHub, number: int) -> httpx.Response:
    headers = await running.session("/mcp/s/liar") | ONCE
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": CALL}
    return await running.http.post("/mcp/s/liar", content=orjson.dumps(message), headers=headers)
