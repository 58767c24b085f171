"""What a request must be before anything is done for it; and what refusals look like."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest

from tests.support.hub import META, MODERN, Behind, RunningHub, events, modern_headers, modern_message, running_hub

pytestmark = pytest.mark.anyio

ECHO = {"name": "echo", "arguments": {"text": "hi"}}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For the whole module, as its hub is."""
    return "asyncio"


@pytest.fixture(scope="module")
async def hub_and_server(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncGenerator[tuple[RunningHub, Behind]]:
    """One hub for all: a refusal leaves nothing behind."""
    async with running_hub(tmp_path_factory.mktemp("home")) as running:
        yield running, await running.everything()


@pytest.fixture
def running(hub_and_server: tuple[RunningHub, Behind]) -> RunningHub:
    return hub_and_server[0]


@pytest.fixture
def behind(hub_and_server: tuple[RunningHub, Behind]) -> Behind:
    hub_and_server[1].server.calls.clear()
    return hub_and_server[1]


async def post(running: RunningHub, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    told = modern_headers("server/discover") | running.bearer() | (headers or {})
    answer = await running.http.post("/mcp", content=body, headers={k: v for k, v in told.items() if v})
    return answer.status_code, answer.json().get("error")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"nonsense", -32700),
        (b'"text"', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'{"id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32700),
        (b"[" * 100_000, -32600),
        (b'{"a":' * 100_000, -32700),
    ],
)
async def test_what_is_not_one_request_is_refused_with_the_protocols_code(
    running: RunningHub, body: bytes, code: int
) -> None:
    status, error = await post(running, body)
    assert (status, error["code"]) == (400, code)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_web_pages_form_cannot_run_a_tool(running: RunningHub, behind: Behind, kind: str) -> None:
    answer = await running.modern("tools/call", ECHO, headers={"content-type": kind})
    assert answer.status_code == 415
    assert not behind.server.calls


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "text/html"])
async def test_a_caller_must_take_both_kinds_of_answer(running: RunningHub, accept: str) -> None:
    assert (await running.modern("server/discover", headers={"accept": accept})).status_code == 406


async def test_a_body_beyond_the_limit_is_refused_unread(running: RunningHub) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * (5 * 2**20) + b'"}'
    status, error = await post(running, body)
    assert status == 413
    assert error["data"]["code"] == "too-large"


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-protocol-version": ""},
        {"mcp-protocol-version": "2099-01-01"},
        {"mcp-method": ""},
        {"mcp-method": "tools/list"},
        {"mcp-method": "Tools/Call"},
        {"mcp-name": ""},
        {"mcp-name": "wait"},
        {"mcp-name": "=?base64?%%%?="},
    ],
)
async def test_headers_must_agree_with_the_body(running: RunningHub, behind: Behind, headers: dict[str, str]) -> None:
    answer = await running.modern("tools/call", ECHO, headers=headers, identifier="a")
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["id"]) == (-32020, "a")
    assert not behind.server.calls


@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-x"])
async def test_a_routing_header_sent_twice_is_refused(running: RunningHub, behind: Behind, name: str) -> None:
    headers = modern_headers("tools/call", ECHO) | running.bearer()
    twice = [*headers.items(), (name, headers.get(name, "v")), (name, "other")]
    answer = await running.http.post("/mcp", content=orjson.dumps(modern_message("tools/call", ECHO)), headers=twice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
    assert not behind.server.calls


async def test_white_space_around_header_values_does_not_count(running: RunningHub) -> None:
    body = orjson.dumps(modern_message("tools/call", ECHO))
    headers = modern_headers("tools/call", ECHO) | running.bearer() | {"content-length": str(len(body))}
    host = running.url.removeprefix("http://")
    head = "".join(f"{name}: \t{value} \t\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"POST /mcp HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer


async def test_an_encoded_name_is_decoded_before_it_is_compared(running: RunningHub) -> None:
    answer = await running.modern("tools/call", ECHO, headers={"mcp-name": "=?base64?ZWNobw==?="})
    assert answer.json()["result"]["structuredContent"]["text"] == "hi"


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/such"])
async def test_methods_that_a_revision_does_not_have_are_not_found(running: RunningHub, method: str) -> None:
    answer = await running.modern(method, {"level": "info", "uri": "test://static-text"}, identifier="7")
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (404, -32601, "7")


async def test_a_revision_that_is_not_spoken_is_told_which_are(running: RunningHub) -> None:
    meta = {f"{META}protocolVersion": "2030-01-01"}
    answer = await running.modern("server/discover", meta=meta, headers={"mcp-protocol-version": "2030-01-01"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["data"]) == (-32022, {"supported": [MODERN], "requested": "2030-01-01"})


@pytest.mark.parametrize("path", ["/mcp/s/absent", "/mcp/c/absent", "/mcp/x", "/mcp/s/a/b"])
async def test_an_endpoint_that_is_not_there_is_an_error_in_json_rpc(running: RunningHub, path: str) -> None:
    answer = await running.modern("tools/list", path=path)
    assert "error" in answer.json()


@pytest.mark.parametrize("verb", ["GET", "DELETE", "PUT"])
async def test_a_modern_endpoint_takes_only_posts(running: RunningHub, verb: str) -> None:
    headers = running.bearer() | {"mcp-protocol-version": MODERN}
    answer = await running.http.request(verb, "/mcp", headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_call_without_a_key_is_told_where_to_get_one(running: RunningHub) -> None:
    answer = await running.modern("tools/list", headers={"authorization": ""})
    assert answer.status_code == 401
    assert "resource_metadata=" in answer.headers["www-authenticate"]


async def test_denied_and_absent_tools_look_the_same_to_the_caller(running: RunningHub, behind: Behind) -> None:
    token = await running.key("narrow", ["call:everything/echo"])
    params: dict[str, Any] = {"name": "test_simple_text"}
    denied = await running.modern("tools/call", params, token=token)
    absent = await running.modern("tools/call", params | {"name": "test_simple_tex!"}, token=token)
    # Each refusal has a trace of its own; nothing else tells them apart.
    told = [re.sub(rb'"trace":"[0-9a-z]+"|test_simple_tex[t!]', b"", one.content) for one in (denied, absent)]
    assert told[0] == told[1]
    assert denied.status_code == absent.status_code
    named = {name: value for name, value in denied.headers.items() if name != "date"}
    assert named == {name: value for name, value in absent.headers.items() if name != "date"}
    assert not behind.server.calls
    listed = events(await running.modern("tools/list", token=token))[-1]["result"]["tools"]
    assert [tool["name"] for tool in listed] == ["echo"]


async def test_mirrored_headers_have_bounds(running: RunningHub, behind: Behind) -> None:
    for extra in ({f"mcp-param-x{number}": "1" for number in range(65)}, {"mcp-param-long": "a" * 8193}):
        answer = await running.modern("tools/call", ECHO, headers=extra)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
    assert not behind.server.calls
    fits = {f"mcp-param-x{number}": "1" for number in range(63)} | {"mcp-param-long": "a" * 8192}
    assert (await running.modern("tools/call", ECHO, headers=fits)).status_code == 200


async def test_a_key_that_was_revoked_is_refused_on_a_connection_where_it_was_good(running: RunningHub) -> None:
    row, token = await running.hub.keys.create("short", ["call"])
    # The same head each time, so that nothing of it is looked at anew but whether the key still holds.
    for text in ("a", "b", "c"):
        answer = await running.modern("tools/call", {"name": "echo", "arguments": {"text": text}}, token=token)
        assert events(answer)[-1]["result"]["structuredContent"]["text"] == text
    await running.hub.keys.revoke(row.id)
    answer = await running.modern("tools/call", {"name": "echo", "arguments": {"text": "d"}}, token=token)
    assert answer.status_code == 401
