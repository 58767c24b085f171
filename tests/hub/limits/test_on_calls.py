"""Limits on real calls: which apply, what a refused caller is told, what it costs the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.catalog.limits import LimitSpec
from hub.catalog.manifest import Declaration
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.hub import RunningHub, events, running_hub

pytestmark = pytest.mark.anyio

ECHO: dict[str, Any] = {"name": "echo", "arguments": {"text": "hi"}}
IMAGE: dict[str, Any] = {"name": "test_image_content", "arguments": {}}


@pytest.fixture
async def running(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[RunningHub]:
    async with running_hub(tmp_path) as running:
        await running.everything()
        yield running


async def limit(running: RunningHub, **told: Any) -> None:
    await running.hub.catalog.put_limit(LOCAL_ADMINISTRATOR, LimitSpec.model_validate({"name": "test"} | told))


async def passed(running: RunningHub, many: int, token: str | None = None, call: dict[str, Any] = ECHO) -> int:
    answers = [await running.modern("tools/call", call, token=token) for _ in range(many)]
    return sum(answer.status_code == 200 and "result" in events(answer)[-1] for answer in answers)


async def test_a_refused_caller_is_told_which_limit_whose_until_when_and_who_can_raise_it(running: RunningHub) -> None:
    await limit(running, principal="*", quota="2/day", contact="platform@example.com")
    assert await passed(running, 2) == 2
    answer = await running.modern("tools/call", ECHO)
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert error["code"] == -32004
    assert error["data"]["limit"] == "test"
    assert error["data"]["whose"].startswith("key:")
    assert error["data"]["raisedBy"] == "platform@example.com"
    assert "2/day" in error["message"]
    assert "entrepot limits set test" in error["data"]["hint"]
    assert 0 < error["data"]["retryAfter"] <= 86_400
    assert int(answer.headers["retry-after"]) - error["data"]["retryAfter"] < 1


async def test_a_legacy_client_is_told_the_same(running: RunningHub) -> None:
    await limit(running, principal="*", rate="1/minute")
    headers = await running.session()
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": ECHO}
    first, second = [await running.http.post("/mcp", json=body, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["id"] == 7
    assert 59 <= int(second.headers["retry-after"]) <= 60
    assert second.headers["mcp-session-id"] == headers["mcp-session-id"]


async def test_each_principal_has_a_count_of_its_own_or_all_share_one(running: RunningHub) -> None:
    other = await running.key("other", ["call"])
    await limit(running, principal="*", quota="3/day")
    assert [await passed(running, 5), await passed(running, 5, other)] == [3, 3]
    await limit(running, name="all", quota="4/day")
    await running.hub.catalog.remove_limit(LOCAL_ADMINISTRATOR, "test")
    assert await passed(running, 3) + await passed(running, 3, other) == 4


async def test_a_teams_count_is_one_for_all_its_keys_and_for_what_acts_for_them(running: RunningHub) -> None:
    keys = running.hub.keys
    row, first = await keys.create("one", ["call"], teams=["research"])
    _, second = await keys.create("two", ["call"], teams=["research", "sales"])
    subject = "key:" + row.id.removeprefix("key_")
    _, run = await keys.create("run", ["call"], kind="run", on_behalf_of=subject)
    await limit(running, team="*", quota="6/day")
    assert [await passed(running, 2, token) for token in (first, second, run)] == [2, 2, 2]
    assert [await passed(running, 1, token) for token in (first, second, run)] == [0, 0, 0]
    assert await passed(running, 3) == 3


async def test_a_run_counts_as_the_one_it_acts_for(running: RunningHub) -> None:
    row, token = await running.hub.keys.create("owner", ["call"])
    subject = "key:" + row.id.removeprefix("key_")
    _, run = await running.hub.keys.create("run", ["call"], kind="run", on_behalf_of=subject)
    await limit(running, principal=subject, quota="3/day")
    assert [await passed(running, 2, token), await passed(running, 2, run)] == [2, 1]


async def test_a_tool_or_a_server_has_limits_and_its_neighbours_have_none(running: RunningHub) -> None:
    await running.everything("second")
    await limit(running, server="everything", tool="echo", quota="2/day")
    one, two = [dict(ECHO, name=f"{server}__echo") for server in ("everything", "second")]
    image = dict(IMAGE, name="everything__test_image_content")
    assert [await passed(running, 3, call=call) for call in (one, two, image)] == [2, 3, 3]
    await limit(running, name="each", server="*", quota="4/day")
    # A refused call takes nothing: the server's own limit still has the one that the tool's limit refused.
    assert await passed(running, 3, call=one) == 0
    assert await passed(running, 9, call=image) == 4
    assert await passed(running, 9, call=two) == 4


async def test_calls_at_once_are_bounded_and_the_place_of_an_abandoned_call_is_free_again(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as running:
        behind = await running.everything()
        await limit(running, server="everything", concurrent=1)
        call = asyncio.create_task(running.modern("tools/call", {"name": "wait"}))
        async with asyncio.timeout(10):
            await behind.server.started.wait()
            answer = await running.modern("tools/call", ECHO)
            assert answer.json()["error"]["data"]["bound"] == "1 at the same time"
            call.cancel()
            await behind.server.cancelled.wait()
            while not await passed(running, 1):
                await asyncio.sleep(0.01)


async def test_a_limit_can_be_declared_raised_and_taken_away_while_calls_run(running: RunningHub) -> None:
    declared = Declaration.model_validate({"limits": [{"name": "test", "quota": "2/day"}]})
    outcome = await running.hub.catalog.apply(LOCAL_ADMINISTRATOR, declared)
    assert [(change["action"], change["kind"]) for change in outcome["changes"]] == [("create", "limit")]
    again = await running.hub.catalog.apply(LOCAL_ADMINISTRATOR, declared)
    assert again["changes"][0]["action"] == "none"
    assert await passed(running, 3) == 2
    await limit(running, quota="4/day")
    assert await passed(running, 3) == 2
    await running.hub.catalog.remove_limit(LOCAL_ADMINISTRATOR, "test")
    assert await passed(running, 3) == 3


async def test_a_refusal_is_in_the_audit_and_in_the_metrics(running: RunningHub) -> None:
    await limit(running, quota="1/day")
    await passed(running, 3)
    told = (await running.http.get("/metrics")).text
    assert 'entrepot_calls_limited_total{limit="test"} 2.0' in told
    lines = "".join(path.read_text() for path in running.hub.audit.folder.glob("*.jsonl"))
    assert lines.count('"outcome":"too-many"') == 2
    assert "The limit 'test' of all callers together is reached" in lines


async def test_quotas_outlive_the_hub(tmp_path: Path) -> None:
    written = b""
    for turn, expected in enumerate((3, 2, 0)):
        home = tmp_path / str(turn)
        home.mkdir()
        (home / "quotas.jsonl").write_bytes(written)
        async with running_hub(home) as running:
            await running.everything()
            await limit(running, quota="5/month")
            assert await passed(running, 3) == expected
            # As it stands, without an orderly end: what a killed hub leaves behind.
            written = (home / "quotas.jsonl").read_bytes()


async def test_who_used_most_is_shown(running: RunningHub) -> None:
    await limit(running, principal="*", quota="10/day", concurrent=5)
    await passed(running, 3)
    transport = httpx.ASGITransport(running.hub.local)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        (shown,) = (await client.get("/api/v1/limits")).json()["limits"]
    assert {(use["kind"], use["used"]) for use in shown["usage"]} >= {("quota", 3.0)}
    assert all(use["whose"].startswith("key:") for use in shown["usage"])
