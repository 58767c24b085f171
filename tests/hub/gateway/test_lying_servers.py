"""What a server says in the middle of a call that crosses the eras may be anything; its client gets an error that
names it, and is never asked what it did not say it can be asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.hub import META, RunningHub, events
from tests.support.legacy import CALL, legacy
from tests.support.misconfigured.mcp import Asked, Mcp
from tests.support.upstreams import Exchange, RawServer

pytestmark = pytest.mark.anyio

ABLE: dict[str, Any] = {f"{META}clientCapabilities": {"elicitation": {"form": {}, "url": {}}}}
QUESTION: dict[str, Any] = {
    "method": "elicitation/create",
    "params": {"mode": "form", "message": "?", "requestedSchema": {}},
}


@pytest.mark.parametrize("data", [None, {}, {"elicitations": 5}, {"elicitations": [5]}, 7])
async def test_a_server_that_sends_its_user_nowhere_is_the_servers_fault(running: RunningHub, data: Any) -> None:
    async def act(one: Exchange) -> None:
        error = {"code": -32042, "message": "go"} | ({} if data is None else {"data": data})
        await one.whole(orjson.dumps({"jsonrpc": "2.0", "id": one.message["id"], "error": error}))

    async with RawServer(legacy(act)) as server:
        await running.register("liar", server.url)
        answer = await running.modern("tools/call", CALL, meta=ABLE)
    error = events(answer)[-1]["error"]
    assert answer.status_code == 200 and "does not say to which" in error["message"]
    assert (error["data"]["code"], error["data"]["owner"]) == ("server-failed", "server")


ASKED: list[tuple[Any, str]] = [
    ([], "in a form that is not"),
    ({"q": 5}, "in a form that is not"),
    ({"q": {}}, "in a form that is not"),
    ({"q": {"method": "elicitation/create", "params": []}}, "in a form that is not"),
    ({"q": QUESTION}, "did not declare"),
    ({"q": {"method": "tools/call"}}, "did not declare"),
]


@pytest.mark.parametrize(("requests", "said"), ASKED)
async def test_a_legacy_client_is_only_asked_what_it_can_be_asked(
    running: RunningHub, requests: Any, said: str
) -> None:
    async def ask(asked: Asked) -> None:
        await asked.result({"resultType": "input_required", "inputRequests": requests})

    async with RawServer(Mcp(eras=("modern",), own={"tools/call": ask})) as server:
        await running.register("liar", server.url)
        headers = await running.session()
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL}
        answer = await running.http.post("/mcp", json=body, headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert said in answer.json()["error"]["message"] and "liar" in answer.json()["error"]["message"]


async def test_a_server_that_breaks_its_output_schema_does_not_hide_what_it_said(running: RunningHub) -> None:
    output = {"type": "object", "properties": {"degrees": {"type": "number"}}, "required": ["degrees"]}
    tool = {"name": "act", "inputSchema": {"type": "object"}, "outputSchema": output}
    said = {"content": [{"type": "text", "text": "no such city: Atlantis"}], "isError": True}

    async def fail(asked: Asked) -> None:
        await asked.result(said | {"resultType": "complete"} if asked.modern else said)

    async with RawServer(Mcp(tools=[tool], own={"tools/call": fail})) as server:
        await running.register("weather", server.url)
        for answer in (
            await running.modern("tools/call", CALL),
            await running.http.post(
                "/mcp",
                json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL},
                headers=await running.session(),
            ),
        ):
            result = events(answer)[-1]["result"]
            assert (result["content"], result["isError"]) == (said["content"], True)


async def test_one_bad_schema_breaks_nobody(running: RunningHub) -> None:
    bad = {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "strnig"}}}}
    old = {"name": "old", "inputSchema": {"type": "object", "properties": {"a": {"type": "string", "required": True}}}}
    out = {"name": "out", "inputSchema": {"type": "object"}, "outputSchema": {"type": 5}}
    good = {"name": "good", "inputSchema": {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}}
    await running.everything()
    async with RawServer(Mcp(tools=[bad, old, out, good])) as server:
        added = await running.register("mixed", server.url)
        names = {tool["name"] for tool in events(await running.modern("tools/list"))[-1]["result"]["tools"]}
    assert {"good", "echo"} <= names and not names & {"bad", "old", "out"}
    assert added["state"] == "degraded" and "'bad'" in added["reason"]
    assert len(added["problems"]) == 6, "each of the three in each era, by name and with the reason"
