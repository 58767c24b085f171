"""With a model too small to write: sentences are quoted, chosen by the model; faults are found by rules."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from agents.findings import findings
from agents.quoting import Passage, candidates, sentences
from tests.agents.conftest import Running
from tests.agents.support.hub import COFFEE, LEAVE, ScriptedHub, completion, structured

HANDBOOK = Passage(
    "Every employee has 25 days of paid annual leave. After five years it is 28 days.\n\n"
    "Up to 5 unused days may be carried over. They expire on 31 March.",
    {"title": "Harbour Works handbook"},
)
CHINESE = Passage("缺勤第四天起需要医生证明。前 6 周发放全额工资。", {"title": "休假制度"})


def likely(question: str, passage: Passage) -> list[str]:
    """What may answer, without vectors."""
    return [found.text for found in candidates(question, [passage], sentences([passage]), [])]


def test_a_sentence_that_leans_on_the_one_before_comes_with_it() -> None:
    found = likely("When do carried-over days expire?", HANDBOOK)
    assert found[0] == "Up to 5 unused days may be carried over. They expire on 31 March."


def test_chinese_questions_find_chinese_sentences() -> None:
    assert likely("缺勤第几天起需要医生证明?", CHINESE)[0] == "缺勤第四天起需要医生证明。"


@pytest.mark.parametrize("question", ["How many ships does Harbour Works own?", "Who leads Harbour Works?"])
def test_words_of_the_title_alone_answer_nothing(question: str) -> None:
    assert likely(question, HANDBOOK) == []


def test_faults_are_found_in_logs_and_replicas_most_urgent_first() -> None:
    replicas = [
        {"name": "rag", "state": "running", "wanted": 1, "running": 1, "restarts": 2},
        {"name": "logs", "state": "backing-off", "reason": "exit 1", "wanted": 1, "running": 0, "restarts": 5},
        {"name": "spare", "state": "idle", "wanted": 1, "running": 0, "restarts": 0},
    ]
    lines = [{"source": "hub-0", "level": "error", "message": "out of memory", "at": "2026-01-01T00:00:00Z"}]
    found = findings([{"replicas": replicas}, {"lines": [*lines, *lines]}])
    assert [finding.text.split(":")[0].split(" ")[0] for finding in found] == ["logs", "hub-0", "rag"]
    assert "memory" in found[1].action


@pytest.mark.anyio
async def test_a_small_model_chooses_a_sentence_and_cannot_add_to_it(agents: Running, hub: ScriptedHub) -> None:
    async def search(arguments: dict[str, Any]) -> dict[str, Any]:
        return structured({"hits": [LEAVE, COFFEE], "indexing": False})

    async def model(body: dict[str, Any]) -> dict[str, Any]:
        offered = body["response_format"]["json_schema"]["schema"]["properties"]["choice"]["enum"]
        return completion(orjson.dumps({"choice": offered[0]}).decode())

    hub.offer("rag/search_documents", search, readOnlyHint=True)
    hub.model, hub.native_tools = model, False
    with anyio.fail_after(30):
        result = await agents.ask("librarian", {"question": "How many days of annual leave are there?"})
    output = result["structuredContent"]
    assert output["answer"] == "Every employee has 25 days of paid annual leave."
    assert [citation["quote"] for citation in output["citations"]] == [output["answer"]]
    assert len(hub.model_calls) == 1
