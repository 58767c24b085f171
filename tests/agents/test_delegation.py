"""Who a run acts for: only the hub's own run keys speak for a run, whatever a key is called."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.agents.conftest import CALLER_TOLD, Running
from tests.agents.support.hub import ScriptedHub, completion
from tests.agents.test_runs import put

pytestmark = pytest.mark.anyio


async def asked_inside(agents: Running, hub: ScriptedHub, **caller: Any) -> dict[str, Any]:
    """What an agent's call is answered while a run of Anna's is under way; `caller` changes what its hub tells."""
    answers: list[dict[str, Any]] = []

    async def model(body: dict[str, Any]) -> dict[str, Any]:
        if not answers:
            # The nested run asks its model too: mark first, so that it starts none of its own.
            answers.append({})
            told = hub.as_run() | caller
            params: dict[str, Any] = {"name": "helper", "arguments": {"question": "go"}}
            answers[0] = await agents.rpc("tools/call", params, caller=told)
        return completion("done")

    hub.model = model
    await put(agents, tools=[])
    with anyio.fail_after(30):
        await agents.ask("helper", {"question": "go"}, caller=CALLER_TOLD | {"kind": "service"})
    return answers[0]


async def test_a_run_that_calls_an_agent_acts_for_whoever_its_parent_acts_for(
    agents: Running, hub: ScriptedHub
) -> None:
    assert "result" in await asked_inside(agents, hub)
    inner, outer = sorted(agents.worker.records.latest("helper"), key=lambda run: -run.depth)
    assert (inner.parent, inner.depth, inner.on_behalf_of) == (outer.id, 1, "key:anna")


async def test_a_key_that_is_only_named_like_a_run_acts_for_its_own_holder(agents: Running, hub: ScriptedHub) -> None:
    assert "result" in await asked_inside(agents, hub, subject="key:mallory", kind="service", on_behalf_of="")
    runs = agents.worker.records.latest("helper")
    assert {(run.subject, run.on_behalf_of, run.parent, run.depth) for run in runs} == {
        ("key:anna", "", "", 0),
        ("key:mallory", "", "", 0),
    }


@pytest.mark.parametrize(
    "caller",
    [
        {"on_behalf_of": "person:admin"},
        {"on_behalf_of": ""},
        {"subject": "run:another"},
        {"name": "run_that_never_was"},
        {"name": "anything"},
    ],
    ids=["for somebody else", "for nobody", "with another key", "of an unknown run", "of no run"],
)
async def test_a_run_key_that_does_not_fit_its_run_starts_nothing(
    agents: Running, hub: ScriptedHub, caller: dict[str, Any]
) -> None:
    """Otherwise it would begin a new chain, and agents could call agents without end."""
    answer = await asked_inside(agents, hub, **caller)
    assert answer["error"]["data"]["code"] == "forbidden"
    assert len(agents.worker.records.latest("helper")) == 1
