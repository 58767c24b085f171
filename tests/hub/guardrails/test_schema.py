"""Arguments against their tool's schema: what is judged, what is told, and what a hostile schema cannot do."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import pytest

from hub.catalog import discovery
from hub.catalog.manifest import ServerSpec
from hub.catalog.schemas import MOST_WORK, Schema, Unusable, problem
from hub.identity.principal import LOCAL_ADMINISTRATOR
from hub.upstream.address import Survey
from tests.hub.catalog.scripted import tool
from tests.support.everything import Everything
from tests.support.hub import Era, RunningHub, events, running_hub
from tests.support.upstreams import Recorded, serving

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
REMOTE = {"refRemote.json": 15, "dynamicRef.json": 5, "vocabulary.json": 2}
"""Cases of the suite whose schemas name others by URL: never fetched, so they cannot be used."""


def test_every_required_case_of_the_official_suite_is_judged_rightly() -> None:
    folder = os.environ.get("ENTREPOT_TEST_DATA")
    if not folder:
        pytest.skip("set ENTREPOT_TEST_DATA to the evaluation data to try the JSON Schema suite")
    packed = Path(folder, "json_schema", "draft2020-12.json.gz").read_bytes()
    suite: dict[str, list[dict[str, Any]]] = orjson.loads(gzip.decompress(packed))
    judged, unusable = 0, Counter[str]()
    for file, groups in suite.items():
        for group in groups:
            schema: dict[str, Any] | bool = group["schema"]
            try:
                compiled = Schema(schema if isinstance(schema, dict) else {"allOf": [schema]})
            except Unusable as error:
                assert "localhost:1234" in str(error)
                unusable[file] += 1
                continue
            for case in group["tests"]:
                where = f"{file}: {group['description']}: {case['description']}"
                assert compiled.is_valid(case["data"]) is case["valid"], where
                assert (compiled.complaint(case["data"]) == "") is case["valid"], where
                judged += 1
    assert judged >= 1250
    assert unusable == REMOTE


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "https://example.com/x.json"}, "Retrieval is disabled"),
        ({"$ref": "file:///etc/passwd"}, "Retrieval is disabled"),
        ({"$schema": "https://example.com/own"}, "Unknown meta-schema"),
        ({"type": "objekt"}, "not valid"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "regex"),
        ({"properties": {"a": {"description": "x" * 300_000}}}, "larger than"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema: dict[str, Any], why: str) -> None:
    assert why in problem({"type": "object"} | schema)


def test_no_schema_and_no_arguments_can_hold_the_worker() -> None:
    doubling: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    assert "steps" in problem({"$defs": doubling | {"a40": {}}, "$ref": "#/$defs/a0"})
    tree = {"$defs": {"x": {"properties": {"a": {"allOf": [{"$ref": "#/$defs/x"}] * 2}}, "not": {"required": ["z"]}}}}
    recursive, deep = Schema(tree | {"$ref": "#/$defs/x"}), orjson.loads(b'{"a":' * 60 + b'{"z":1}' + b"}" * 60)
    greedy = Schema({"properties": {"s": {"pattern": "^(?=(a+)+$)(a+)+$"}}})
    began = perf_counter()
    assert not recursive.is_valid(deep)
    assert recursive.complaint(deep)
    assert not greedy.is_valid({"s": "a" * 100_000 + "b"})
    assert perf_counter() - began < 2
    assert Schema(TEXT).too_much(b"," * MOST_WORK)
    assert not Schema(TEXT).too_much(b"x" * MOST_WORK)


def test_a_tool_with_an_unusable_schema_is_listed_and_told_of() -> None:
    good, odd = tool("good"), tool("odd", inputSchema={"type": "object", "$ref": "https://example.com/x"})
    found = discovery.read(Survey({}, {("modern", "tool"): (good, odd), ("legacy", "tool"): (odd,)}))
    assert [item.name for item in found.definitions] == ["good", "odd", "odd"]
    (said,) = found.unchecked
    assert said.startswith("tool 'odd': Resource 'https://example.com/x'")
    assert found.problems == ()


@pytest.fixture
async def running(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def _called(running: RunningHub, era: Era, arguments: Any) -> dict[str, Any]:
    params = {"name": "echo"} if arguments is None else {"name": "echo", "arguments": arguments}
    if era == "modern":
        return events(await running.modern("tools/call", params))[-1]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return events(await running.http.post("/mcp", json=body, headers=await running.session()))[-1]


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_arguments_that_do_not_fit_are_the_tools_error_and_never_reach_its_server(
    running: RunningHub, era: Era
) -> None:
    behind = await running.everything()
    assert "error" not in await _called(running, era, {"text": "hi"})
    for arguments, told in (({"text": 5}, 'text: 5 is not of type "string"'), ({}, '"text" is a required'), (None, "")):
        result = (await _called(running, era, arguments))["result"]
        assert result["isError"] is True
        assert told in result["content"][0]["text"]
        assert result.get("resultType") == ("complete" if era == "modern" else None)
    assert len(behind.recorded.asked("tools/call")) == 1
    spool = b"".join(path.read_bytes() for path in running.hub.audit.folder.glob("*.jsonl"))
    assert spool.count(b'"outcome":"invalid-arguments"') == 3
    assert b"is not of type" not in spool


@pytest.mark.anyio
async def test_a_server_may_be_exempted(running: RunningHub) -> None:
    behind = Recorded(Everything("lax").app())
    base = await running.servers.enter_async_context(serving(behind))
    spec = ServerSpec(name="lax", url=f"{base}/mcp", check_arguments=False)
    await running.hub.catalog.add(LOCAL_ADMINISTRATOR, spec)
    assert running.hub.catalog.show("lax")["check_arguments"] is False
    await _called(running, "modern", {"text": 5})
    assert behind.asked("tools/call")[0].message["params"]["arguments"] == {"text": 5}
