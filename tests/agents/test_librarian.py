"""The librarian: cited answers from tool results, and honesty where there are none."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.agents.conftest import Running
from tests.agents.support.hub import COFFEE, LEAVE, ScriptedHub, completion, structured

pytestmark = pytest.mark.anyio


def holding(*hits: dict[str, Any]) -> Any:
    """A search that always finds these."""

    async def search(arguments: dict[str, Any]) -> dict[str, Any]:
        return structured({"hits": list(hits), "indexing": False})

    return search


def saying(*texts: str) -> Any:
    """A model that says these in turn, then the last again."""
    left = list(texts)

    async def answer(body: dict[str, Any]) -> dict[str, Any]:
        return completion(left.pop(0) if len(left) > 1 else left[0])

    return answer


async def test_librarian_answers_from_the_passages_and_cites_only_those_it_used(
    agents: Running, hub: ScriptedHub
) -> None:
    hub.offer("rag/search_documents", holding(LEAVE, COFFEE), readOnlyHint=True)
    hub.model = saying("Employees have 25 days of paid annual leave.")
    with anyio.fail_after(30):
        result = await agents.ask("librarian", {"question": "How much annual leave do I have?"})
    output = result["structuredContent"]
    assert output["found"] is True
    assert [citation["path"] for citation in output["citations"]] == ["leave.md"]
    assert hub.tool_calls == [("rag/search_documents", {"query": "How much annual leave do I have?"})]
    assert "25 days" in hub.model_calls[0]["messages"][1]["content"]
    assert result["_meta"]["dev.entrepot/trace"] == "ab" * 16
    assert "leave.md" in result["content"][0]["text"]
    # The run's key carries no more than the manifest lists, acts for the caller, and is gone afterwards.
    assert hub.issued[0]["scopes"] == ["call:rag/search_documents", "models"]
    assert hub.issued[0]["on_behalf_of"] == "key:anna"
    assert hub.revoked == ["key_0"]


async def test_librarian_finds_nothing_when_the_documents_hold_nothing(agents: Running, hub: ScriptedHub) -> None:
    hub.offer("rag/search_documents", holding(), readOnlyHint=True)
    hub.model = saying("The moon is made of cheese.")
    with anyio.fail_after(30):
        result = await agents.ask("librarian", {"question": "What is the moon made of?"})
    output = result["structuredContent"]
    assert (output["found"], output["citations"]) == (False, [])
    assert "Not found" in output["answer"]
    assert hub.model_calls == []


async def test_an_answer_that_no_passage_carries_is_not_given(agents: Running, hub: ScriptedHub) -> None:
    hub.offer("rag/search_documents", holding(COFFEE), readOnlyHint=True)
    hub.model = saying("Napoleon lost at Waterloo in 1815.")
    with anyio.fail_after(30):
        result = await agents.ask("librarian", {"question": "When was Waterloo?"})
    assert result["structuredContent"]["found"] is False
    assert len(hub.model_calls) == 2


async def test_librarian_says_in_chinese_that_it_cannot_answer_when_rag_is_off(agents: Running) -> None:
    with anyio.fail_after(30):
        result = await agents.ask("librarian", {"question": "年假有几天?"})
    output = result["structuredContent"]
    assert output["found"] is False
    assert output["answer"].startswith("无法回答")
    assert "There is no such server" in output["answer"]


async def test_a_caller_without_the_right_to_search_gets_an_honest_refusal(agents: Running, hub: ScriptedHub) -> None:
    hub.offer("rag/search_documents", holding(LEAVE), readOnlyHint=True)
    caller = {"subject": "key:ben", "name": "ben", "scopes": ["call:agents"], "trace": ""}
    with anyio.fail_after(30):
        await agents.ask("librarian", {"question": "How much leave?"}, caller)
    assert hub.issued[0]["scopes"] == []


async def test_operator_reads_what_its_plan_brings_and_answers_in_its_schema(agents: Running, hub: ScriptedHub) -> None:
    async def told(arguments: dict[str, Any]) -> dict[str, Any]:
        return structured({"lines": [{"message": "rag: out of memory"}]})

    for address in ("logs/log_statistics", "logs/search_logs", "scaling/list_replicas"):
        hub.offer(address, told, readOnlyHint=True)
    hub.model = saying('{"answer": "rag ran out of memory.", "problem": true, "action": "Give rag more memory."}')
    with anyio.fail_after(30):
        result = await agents.ask("operator", {})
    assert result["structuredContent"]["problem"] is True
    assert [address for address, _ in hub.tool_calls] == [
        "logs/log_statistics",
        "logs/search_logs",
        "logs/search_logs",
        "scaling/list_replicas",
    ]
    assert hub.model_calls[0]["response_format"]["type"] == "json_schema"
    assert "out of memory" in str(hub.model_calls[0]["messages"])


async def test_input_that_does_not_fit_is_refused_before_a_run_begins(agents: Running, hub: ScriptedHub) -> None:
    message = await agents.rpc("tools/call", {"name": "librarian", "arguments": {"question": 3}})
    assert message["error"]["code"] == -32602
    assert hub.issued == []
