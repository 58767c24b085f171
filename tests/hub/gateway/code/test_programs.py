"""Programs through `run_code`: what they can do with tools, what comes back, and what is recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import orjson
import pytest

from tests.docs.blocks import ROOT, blocks
from tests.hub.gateway.code.conftest import Shop, run, said
from tests.support.hub import META, Era, RunningHub

pytestmark = pytest.mark.anyio

ERAS: tuple[Era, Era] = ("modern", "legacy")

SUM = """
import asyncio
import shop

numbers = await shop.list_orders(customer="acme")
orders = await asyncio.gather(*[shop.get_order(id=number) for number in numbers["result"]])
total = sum(order["total"] for order in orders)
print(len(orders), "orders")
await shop.write_report(f"acme: {total}")
total
"""


def records(running: RunningHub) -> list[dict[str, Any]]:
    lines = [
        line for path in sorted(running.hub.audit.folder.glob("*.jsonl")) for line in path.read_bytes().split(b"\n")
    ]
    found = [orjson.loads(line) for line in lines if line]
    return [record for record in found if record["event"] == "tool:call"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_program_works_with_tools_and_only_its_output_comes_back(
    running: RunningHub, shop: Shop, era: Era
) -> None:
    assert await run(running, SUM, era) == "4 orders\n42.0"
    assert shop.reports == ["acme: 42.0"]


async def test_the_manual_shows_what_is_there_and_its_program_runs(running: RunningHub, shop: Shop) -> None:
    described, program = (block.text for block in blocks(ROOT / "docs" / "code-mode.md") if block.language == "python")
    async with running.connect("modern", "/mcp?mode=code") as client:
        shown = said(await client.call_tool("describe_tool", {"names": ["get_order"]}))
    # The formatter puts empty lines into the manual's.
    assert shown.split() == described.split()
    assert await run(running, program) == "4"


async def test_every_call_of_a_program_is_recorded_and_the_program_once_under_one_trace(
    running: RunningHub, shop: Shop
) -> None:
    await run(running, SUM)
    *calls, program = records(running)
    assert [record["target"] for record in calls] == ["list_orders", *["get_order"] * 4, "write_report"]
    assert {record["detail"] for record in calls} == {"via run_code"}
    assert (program["server"], program["target"], program["outcome"]) == ("@hub", "run_code", "ok")
    assert program["detail"].startswith("program sha256:")
    assert program["detail"].endswith("; 6 calls: shop.list_orders, shop.get_order ×4, shop.write_report")
    assert len({record["trace"] for record in (*calls, program)}) == 1
    assert {record["subject"] for record in (*calls, program)} == {program["subject"]}


async def test_gathered_calls_run_at_the_same_time(running: RunningHub, shop: Shop) -> None:
    code = "import asyncio, shop\nawait asyncio.gather(shop.meet(), shop.meet(), shop.meet())"
    assert await run(running, code) == '[{"result":"met"},{"result":"met"},{"result":"met"}]'


async def test_a_program_sees_only_what_its_caller_may_call(running: RunningHub, shop: Shop) -> None:
    few = await running.key("few", ["call:shop/get_order"])
    assert await run(running, "import shop\n(await shop.get_order(id='acme-1'))['total']", token=few) == "10.5"
    refused = await run(running, "import shop\nawait shop.write_report(text='x')", token=few)
    absent = await run(running, "import shop\nawait shop.write_letter(text='x')", token=few)
    assert refused.replace("write_report", "X") == absent.replace("write_letter", "X")
    assert "write_report" in refused and refused.startswith("!Nothing was run")
    none = await running.key("none", ["call:other"])
    assert "shop" in await run(running, "import shop", token=none)
    assert not shop.reports


async def test_what_does_not_fit_the_types_is_refused_before_anything_runs(running: RunningHub, shop: Shop) -> None:
    answer = await run(running, "import shop\nawait shop.write_report(text='a')\nawait shop.get_order(number=3)")
    assert answer.startswith("!Nothing was run")
    assert "program.py:3" in answer and "number" in answer
    assert not shop.reports


async def test_an_error_is_a_traceback_with_lines_and_says_what_was_done(running: RunningHub, shop: Shop) -> None:
    both = "async def both():\n    await shop.write_report(text='a')\n    await shop.get_order(id='x')"
    code = f"import shop\n\n{both}\n\nawait both()"
    answer = await run(running, code)
    assert answer.startswith("!Traceback")
    assert 'File "program.py", line 7' in answer and 'File "program.py", line 5, in both' in answer
    assert "there is no order x" in answer
    assert "Calls that were made: shop.write_report, shop.get_order. Their effects stand." in answer
    caught = await run(running, "import shop\ntry:\n    await shop.get_order(id='x')\nexcept RuntimeError:\n    'none'")
    assert caught == "null"
    syntax = await run(running, "for x in")
    assert syntax.startswith("!Nothing was run") and "program.py:1" in syntax


async def test_a_call_that_is_not_waited_for_still_has_its_effect_once(running: RunningHub, shop: Shop) -> None:
    assert await run(running, "import shop\nx = shop.write_report(text='a')\n1") == "1"
    assert shop.reports == ["a"]


async def test_many_programs_can_wait_for_their_calls_at_once(running: RunningHub, shop: Shop) -> None:
    programs = [asyncio.create_task(run(running, "import shop\nawait shop.wait()")) for _ in range(5)]
    async with asyncio.timeout(10):
        # Two interpreters, five programs: those that wait are put aside.
        while shop.waiting < 5:
            await asyncio.sleep(0.01)
    shop.released.set()
    assert await asyncio.gather(*programs) == ['{"result":"released"}'] * 5


async def test_a_modern_client_is_asked_what_a_tool_asks_and_the_program_goes_on(running: RunningHub) -> None:
    await running.everything()
    asked: list[str] = []

    async def elicit(_ctx: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"name": f"Ann{len(asked)}"})

    code = """
import asyncio, everything
print("before")
found = await asyncio.gather(
    everything.test_input_required_result_elicitation(),
    everything.echo(text="meanwhile"),
    everything.test_input_required_result_elicitation(),
)
print("after")
[found[0], found[2]]
"""
    async with running.connect("modern", "/mcp?mode=code", elicitation_callback=elicit) as client:
        result = await client.call_tool("run_code", {"code": code})
    assert result.content[0].text == 'before\nafter\n["Hello, Ann1!","Hello, Ann2!"]'  # type: ignore[union-attr]
    outcomes = [(record["target"], record["outcome"]) for record in records(running)]
    assert outcomes.count(("test_input_required_result_elicitation", "ok")) == 2
    assert outcomes.count(("echo", "ok")) == 1


async def test_a_waiting_program_belongs_to_its_caller_and_its_text(running: RunningHub) -> None:
    await running.everything()
    meta: dict[str, Any] = {f"{META}clientCapabilities": {"elicitation": {}}}
    code = "import everything\nawait everything.test_input_required_result_elicitation()"
    params: dict[str, Any] = {"name": "run_code", "arguments": {"code": code}}
    path = "/mcp?mode=code"
    asked = (await running.modern("tools/call", params, path=path, meta=meta)).json()["result"]
    (key,) = asked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "Ann"}}}
    retry = params | {"requestState": asked["requestState"], "inputResponses": answers}
    other = await running.key("other")
    foreign = (await running.modern("tools/call", retry, path=path, meta=meta, token=other)).json()
    assert foreign["error"]["code"] == -32602
    changed = retry | {"arguments": {"code": code + "\n1"}}
    assert (await running.modern("tools/call", changed, path=path, meta=meta)).json()["error"]["code"] == -32602
    done = (await running.modern("tools/call", retry, path=path, meta=meta)).json()["result"]
    assert done["content"][0]["text"] == "Hello, Ann!"


async def test_a_legacy_client_is_asked_on_its_stream(running: RunningHub) -> None:
    await running.everything()

    async def elicit(_ctx: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"username": "ann", "email": "a@b.c"})

    code = "import everything\nawait everything.test_elicitation(message='Who?')"
    assert "ann" in await run(running, code, "legacy", elicitation_callback=elicit)


async def test_a_client_that_leaves_ends_its_program(running: RunningHub, shop: Shop) -> None:
    for era in ERAS:
        async with running.connect(era, "/mcp?mode=code") as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await client.call_tool("run_code", {"code": "import shop\nawait shop.wait()"})
        async with asyncio.timeout(5):
            while [record["outcome"] for record in records(running) if record["target"] == "run_code"][-1:] != [
                "cancelled"
            ]:
                await asyncio.sleep(0.01)
