"""Every failure carries a code, who must act, the next step, and the trace under which the audit has the reason."""

from __future__ import annotations

from typing import Any

import pytest

from hub.audit.indexer import Indexer
from hub.audit.query import Filters, search
from hub.errors import NEXT, HubError
from tests.support.hub import RunningHub, events, modern_headers
from tests.support.upstreams import Exchange, RawServer
from tests.wire.test_servers_that_fail import acting

pytestmark = pytest.mark.anyio

TOLD = ("code", "owner", "hint", "trace")
FAILURES: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown tool": ("tools/call", {"name": "nothing"}),
    "a bad cursor": ("tools/list", {"cursor": "x"}),
    "an unknown method": ("no/such", {}),
    "parameters that are wrong": ("tools/call", {"name": 5}),
    "a task that is not": ("tasks/get", {"taskId": "x"}),
    "a server that died": ("tools/call", {"name": "act", "arguments": {}}),
}


async def dies(one: Exchange) -> None:
    one.reset()


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_error_over_mcp_says_all_that_its_reader_needs(running: RunningHub, failure: str) -> None:
    method, params = FAILURES[failure]
    async with RawServer(acting(dies)) as server:
        await running.register("dying", server.url)
        modern = events(await running.modern(method, params))[-1]["error"]
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        legacy = events(await running.http.post("/mcp", json=body, headers=await running.session()))[-1]["error"]
    for error in (modern, legacy):
        assert error["message"] and all(error["data"][member] for member in TOLD), error


async def test_the_trace_leads_to_the_reason_in_the_audit(running: RunningHub) -> None:
    async with RawServer(acting(dies)) as server:
        await running.register("dying", server.url)
        error = events(await running.modern("tools/call", {"name": "act", "arguments": {}}))[-1]["error"]
    await Indexer(running.hub.settings.audit_dir, running.hub.database).catch_up()
    (record,) = await search(running.hub.database, Filters(trace=error["data"]["trace"]))
    assert (record["event"], record["server"], record["target"]) == ("tool:call", "dying", "act")
    assert record["outcome"] == error["data"]["code"]


@pytest.mark.parametrize(
    ("path", "headers", "content"),
    [
        ("/mcp", {"authorization": "Bearer wrong"}, b"{}"),
        ("/mcp", {"host": "evil.test"}, b"{}"),
        ("/mcp", {"content-type": "text/plain"}, b"{}"),
        ("/mcp", {"accept": "text/html"}, b"{}"),
        ("/mcp", {}, b"nonsense"),
        ("/mcp/s/nobody", {}, b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'),
        ("/api/v1/servers", {}, b"{}"),
        ("/v1/chat/completions", {}, b"{}"),
    ],
)
async def test_what_is_refused_before_it_is_a_call_says_the_same(
    running: RunningHub, path: str, headers: dict[str, str], content: bytes
) -> None:
    sent = modern_headers("tools/list") | running.bearer() | {"mcp-protocol-version": "2025-11-25"} | headers
    answer = await running.http.post(path, content=content, headers={k: v for k, v in sent.items() if v})
    assert answer.status_code >= 400
    told = answer.json()
    told = told["error"].get("data", told["error"]) if "error" in told else told
    assert all(told.get(member) for member in TOLD), told


def test_every_error_has_a_next_step() -> None:
    kinds = [HubError]
    for kind in kinds:  # grows while it is read
        kinds += kind.__subclasses__()
    assert len(kinds) > 20
    for kind in kinds:
        assert NEXT[kind.owner], kind
