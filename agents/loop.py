"""The built-in agent, run inside the sandbox: ask the model, run its tool calls, decide. Standard library only.

Planned calls come first. Where the plan fetches passages, the answer is written from them alone, and this file, not
the model, says which of them it rests on; a small model chooses a sentence of theirs instead of writing one.
Nothing here may depend on time or chance: a resumed run replays it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from agents.findings import Finding, findings, overview
from agents.quoting import CJK, MARK, Passage, Sentence, beginnings, candidates, content_words, sentences

Send = Callable[[str, dict[str, Any]], "tuple[int, dict[str, Any]]"]
"""Posts JSON to a path of the border; the status and the JSON of its answer."""

MOST_PASSAGES = 4
PASSAGE_CHARACTERS = 1400
EVIDENCE_CHARACTERS = 2500
ANSWER_TOKENS = 320
"""A model as small as the embedded one repeats itself beyond this."""
CHOICE_TOKENS = 120
CHOICE_CHARACTERS = 90
OVERLAP = 0.34
"""Share of an answer's content words that must stand in a passage for the answer to rest on it."""
PASSAGE_KEYS = ("text", "content", "passage", "snippet", "quote")


class Failed(Exception):
    """The run cannot go on; the message says why."""


@dataclass
class State:
    """Everything the loop knows."""

    job: dict[str, Any]
    send: Send
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    passages: list[Passage] = field(default_factory=list[Passage])
    evidence: list[str] = field(default_factory=list[str])
    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unavailable: list[str] = field(default_factory=list[str])
    asked: int = 0

    @property
    def question(self) -> str:
        """The input in one text: its question, or all of it."""
        given = self.job["input"]
        text = given.get("question") or given.get("text") or given.get("query")
        return str(text) if text else json.dumps(given, ensure_ascii=False) if given else ""

    @property
    def grounded(self) -> bool:
        """Whether the plan fetches passages to answer from."""
        return any(call.get("passages") for call in self.job["plan"])

    @property
    def chinese(self) -> bool:
        """Whether the question is in Chinese."""
        return bool(CJK.search(self.question))


def run(job: dict[str, Any], send: Send) -> dict[str, Any]:
    """Work on one job until there is an output. Raises `Failed`."""
    state = State(job, send)
    follow_plan(state)
    if state.grounded:
        return answer_from_passages(state)
    if state.job.get("small") and {"problem", "action"} <= set(_properties(state)):
        return diagnosis(state)
    open_conversation(state)
    while True:
        message = ask(state)
        if not act(state, message):
            return decide(state, message)


def revise(job: dict[str, Any], send: Send, output: dict[str, Any], fault: str) -> dict[str, Any]:
    """Ask once more for an output, having been told what does not fit. Raises `Failed`."""
    state = State(job, send)
    state.messages = [
        {"role": "system", "content": job["instructions"]},
        {"role": "user", "content": state.question},
        {"role": "assistant", "content": json.dumps(output, ensure_ascii=False)},
        {"role": "user", "content": f"That does not fit: {fault}. Answer again so that it fits."},
    ]
    return _structured(state)


# --- the plan ---------------------------------------------------------------------------------------------------


def follow_plan(state: State) -> None:
    """Make the planned calls in their order; what they bring is passages or evidence."""
    for call in state.job["plan"]:
        result = call_tool(state, call["tool"], filled(call["arguments"], state.job["input"]))
        text = _text(result)
        if result.get("isError"):
            state.unavailable.append(text or f"{call['tool']} failed")
            if call.get("required"):
                raise Failed(text or f"The planned call of {call['tool']} failed.")
        elif call.get("passages"):
            state.passages += passages_in(result, call["passages"])
            if not state.passages and _mapping(result.get("structuredContent")).get("indexing"):
                state.unavailable.append("The documents are still being read; ask again in a while.")
        else:
            state.results.append(_mapping(result.get("structuredContent")))
            state.evidence.append(f"## {call['tool']}\n{text[:EVIDENCE_CHARACTERS]}")


def filled(template: Any, given: dict[str, Any]) -> Any:
    """The template with `{{input.NAME}}` replaced; a text that is nothing else takes the value's own type."""
    if isinstance(template, dict):
        members = {key: filled(value, given) for key, value in _mapping(cast("object", template)).items()}
        return {key: value for key, value in members.items() if value is not None}
    if isinstance(template, list):
        return [filled(value, given) for value in cast("list[Any]", template)]
    if not isinstance(template, str):
        return template
    whole = re.fullmatch(r"\{\{\s*input\.(\w+)\s*\}\}", template)
    if whole:
        return given.get(whole[1])
    return re.sub(r"\{\{\s*input\.(\w+)\s*\}\}", lambda found: str(given.get(found[1], "")), template)


def passages_in(result: dict[str, Any], key: str) -> list[Passage]:
    """The passages that a tool's structured answer lists under `key`."""
    listed = _listing(_mapping(result.get("structuredContent")).get(key))
    found: list[Passage] = []
    for entry in map(_mapping, listed):
        text = next((entry[name] for name in PASSAGE_KEYS if isinstance(entry.get(name), str)), "")
        source = _mapping(entry.get("citation")) or {k: v for k, v in entry.items() if k not in PASSAGE_KEYS}
        if text.strip():
            found.append(Passage(text.strip(), source))
    return found


# --- an answer that rests on passages ---------------------------------------------------------------------------


def answer_from_passages(state: State) -> dict[str, Any]:
    """Have the model answer from the passages alone, and cite those that the answer rests on."""
    passages = state.passages[:MOST_PASSAGES]
    if not passages:
        return _not_found(state)
    if state.job.get("small"):
        return quoted_from(state, passages)
    # The second try has the best passage alone: a small model that lost its way among four often finds it with one.
    for shown in (passages, passages[:1]):
        text = _written_from(state, shown)
        used = used_passages(text, shown)
        if used:
            return _fit(state, MARK.sub("", text).strip() if len(shown) == 1 else text, [shown[i] for i in used])
    return _not_found(state)


def _written_from(state: State, passages: list[Passage]) -> str:
    numbered = "\n\n".join(f"[{n}] {passage.text[:PASSAGE_CHARACTERS]}" for n, passage in enumerate(passages, 1))
    if state.chinese:
        ask_for = f"资料:\n{numbered}\n\n问题: {state.question}\n\n只根据上面的资料, 用中文简短回答。"
    else:
        ask_for = f"Passages:\n{numbered}\n\nQuestion: {state.question}\n\nAnswer shortly, from the passages alone."
    state.messages = [{"role": "system", "content": state.job["instructions"]}, {"role": "user", "content": ask_for}]
    return str(_complete(state, {}).get("content") or "").strip()


def quoted_from(state: State, passages: list[Passage]) -> dict[str, Any]:
    """Have a small model choose the sentence that answers, and give that sentence as it stands in its passage."""
    found = sentences(passages)
    likely = candidates(state.question, passages, found, _vectors(state, [sentence.text for sentence in found]))
    if not likely:
        return _not_found(state)
    chosen = _chosen(state, beginnings(likely))
    return _fit(state, chosen.text, [Passage(chosen.text, passages[chosen.passage].source)])


def _vectors(state: State, texts: list[str]) -> list[list[float]]:
    """Those of the question and the texts; none where no model computes them for this run."""
    name = state.job.get("embedder")
    if not name or not texts:
        return []
    state.asked += 1
    status, answer = state.send("/v1/embeddings", {"model": name, "input": [state.question, *texts]})
    rows = [_mapping(row).get("embedding") for row in _listing(answer.get("data"))]
    if status != 200 or len(rows) != len(texts) + 1 or not all(isinstance(row, list) for row in rows):
        return []
    return cast("list[list[float]]", rows)


def _chosen(state: State, starts: dict[str, Sentence]) -> Sentence:
    """The sentence whose beginning the model writes; the constraint leaves it these and no others."""
    listed = "\n".join(f"- {sentence.text}" for sentence in starts.values())
    if state.chinese:
        ask_for = f"资料:\n{listed}\n\n问题: {state.question}\n\n抄写回答这个问题的那一句。"
    else:
        ask_for = f"Facts:\n{listed}\n\nQuestion: {state.question}\n\nCopy the one fact that answers the question."
    state.messages = [{"role": "system", "content": state.job["instructions"]}, {"role": "user", "content": ask_for}]
    # An engine that ignores the constraint answers in other words; then the best of the ranking stands.
    return starts.get(_choice(state, list(starts))) or next(iter(starts.values()))


def _choice(state: State, offered: list[str]) -> str:
    """Which of the offered texts the model writes; empty when its engine knows no constraints."""
    schema = {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": offered}},
        "required": ["choice"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "choice", "strict": True, "schema": schema}}
    said = str(_complete(state, {"response_format": wanted, "max_tokens": CHOICE_TOKENS}).get("content") or "")
    try:
        return str(_mapping(json.loads(said)).get("choice") or "")
    except ValueError:
        return ""


def used_passages(answer: str, passages: list[Passage]) -> list[int]:
    """Positions of the passages that an answer rests on: marked ones that it overlaps with, else the best overlap."""
    words = content_words(answer)
    if not words:
        return []
    shares = [len(words & content_words(passage.text)) / len(words) for passage in passages]
    marked = {int(number) - 1 for number in MARK.findall(answer)}
    kept = [place for place, share in enumerate(shares) if place in marked and share >= OVERLAP / 2]
    if kept:
        return kept
    best = max(shares)
    if best < OVERLAP:
        return []
    return [place for place, share in enumerate(shares) if share >= max(OVERLAP, best * 0.8)]


def _not_found(state: State) -> dict[str, Any]:
    if state.unavailable:
        why = " ".join(dict.fromkeys(state.unavailable))
        text = (
            f"无法回答: 现在不能检索文档。({why})"
            if state.chinese
            else f"I cannot answer: the documents cannot be searched now. ({why})"
        )
    elif state.chinese:
        text = "没有找到: 文档中没有能回答这个问题的内容。"
    else:
        text = "Not found: the documents hold nothing that answers this question."
    return _fit(state, text, [], found=False)


def _fit(state: State, text: str, used: list[Passage], *, found: bool = True) -> dict[str, Any]:
    known = _properties(state)
    output: dict[str, Any] = {"answer": text}
    if "citations" in known:
        output["citations"] = [passage.source | {"quote": passage.text[:300]} for passage in used]
    if "found" in known:
        output["found"] = found
    return output


# --- a diagnosis by rules, weighed by a small model -----------------------------------------------------------------


def diagnosis(state: State) -> dict[str, Any]:
    """What the tool results show to be wrong; the model says what comes first, and is not asked where all is well."""
    found = findings(state.results)
    seen = overview(state.results)
    missing = [f"Not looked at: {reason}" for reason in dict.fromkeys(state.unavailable)]
    if not found:
        said = "没有发现问题。" if state.chinese else "Nothing is wrong in what was looked at."
        answer = "\n".join([said if state.results else "Nothing could be looked at.", seen, *missing])
        return _bounded(state, {"answer": answer, "problem": bool(missing), "action": ""})
    urgent = _first_to_do(state, found)
    head = f"发现 {len(found)} 个问题:" if state.chinese else f"{len(found)} finding{'s' if len(found) > 1 else ''}:"
    ordered = [urgent, *(finding for finding in found if finding is not urgent)]
    lines = [f"{number}. {finding.text}" for number, finding in enumerate(ordered, 1)]
    answer = "\n".join([head, *lines, seen, *missing])
    return _bounded(state, {"answer": answer, "problem": True, "action": urgent.action})


def _first_to_do(state: State, found: list[Finding]) -> Finding:
    """The model's choice among the findings that are as urgent as the worst."""
    worst = [finding for finding in found if finding.weight >= found[0].weight - 20][:3]
    starts = {finding.text[:CHOICE_CHARACTERS]: finding for finding in worst}
    listed = "\n".join(f"- {finding.text}" for finding in worst)
    asked = state.question or "What must be seen to first?"
    ask_for = f"Findings:\n{listed}\n\n{asked}\n\nCopy the most urgent finding."
    state.messages = [{"role": "system", "content": state.job["instructions"]}, {"role": "user", "content": ask_for}]
    return starts.get(_choice(state, list(starts))) or worst[0]


def _bounded(state: State, output: dict[str, Any]) -> dict[str, Any]:
    """The output with texts cut where the schema says how long they may be."""
    properties = _properties(state)
    for key, value in output.items():
        longest = _mapping(properties.get(key)).get("maxLength")
        if isinstance(value, str) and isinstance(longest, int) and len(value) > longest:
            output[key] = value[: longest - 2].rstrip() + " …"
    return output


def _properties(state: State) -> dict[str, Any]:
    return _mapping(state.job["output"].get("properties"))


# --- a conversation with tools ----------------------------------------------------------------------------------


def open_conversation(state: State) -> None:
    """The instructions, the question, and what the plan has brought."""
    parts = [state.question] if state.question else []
    parts += state.evidence
    parts += [f"(not available: {reason})" for reason in state.unavailable]
    state.messages = [
        {"role": "system", "content": state.job["instructions"]},
        {"role": "user", "content": "\n\n".join(parts) or "Begin."},
    ]


def ask(state: State) -> dict[str, Any]:
    """One request to the model, with the tools that the plan has not called already."""
    planned = {call["tool"] for call in state.job["plan"]}
    offered = [tool for tool in state.job["tools"] if tool["address"] not in planned]
    if offered and state.asked + 2 < state.job["steps"]:
        functions = [{key: tool[key] for key in ("name", "description", "parameters")} for tool in offered]
        return _complete(state, {"tools": [{"type": "function", "function": function} for function in functions]})
    # The last steps are kept for the answer itself.
    return _complete(state, {}) if _only_answer(state) else {"role": "assistant", "content": ""}


def act(state: State, message: dict[str, Any]) -> bool:
    """Run the tool calls of a message; whether there were any."""
    calls = _listing(message.get("tool_calls"))
    if not calls:
        return False
    state.messages.append({"role": "assistant", "content": message.get("content") or "", "tool_calls": calls})
    for call in map(_mapping, calls):
        wanted = _mapping(call.get("function"))
        try:
            arguments = _mapping(json.loads(wanted.get("arguments") or "{}"))
        except ValueError:
            text = "The arguments are not JSON."
        else:
            text = _text(call_tool(state, str(wanted.get("name")), arguments))
        state.messages.append(
            {"role": "tool", "tool_call_id": call.get("id", ""), "content": text[:EVIDENCE_CHARACTERS]}
        )
    return True


def decide(state: State, message: dict[str, Any]) -> dict[str, Any]:
    """Turn the model's last word into an output of the agent's schema."""
    text = str(message.get("content") or "").strip()
    if text and _only_answer(state):
        return {"answer": text}
    if text:
        state.messages.append({"role": "assistant", "content": text})
        state.messages.append({"role": "user", "content": "Give this answer in the required JSON form."})
    return _structured(state)


def _only_answer(state: State) -> bool:
    """Whether the output is a text and nothing else: then no constraint is needed to get it."""
    return list(state.job["output"].get("properties") or {}) == ["answer"]


def _structured(state: State) -> dict[str, Any]:
    """An output under the schema as a constraint. Raises `Failed` when the answer is not JSON even so."""
    wanted = {"type": "json_schema", "json_schema": {"name": "output", "strict": True, "schema": state.job["output"]}}
    text = str(_complete(state, {"response_format": wanted, "max_tokens": 2 * ANSWER_TOKENS}).get("content") or "")
    try:
        output: object = json.loads(text)
    except ValueError as error:
        raise Failed("The model's answer was not complete JSON.") from error
    if not isinstance(output, dict):
        raise Failed("The model's answer was not a JSON object.")
    return _mapping(cast("object", output))


# --- the border -------------------------------------------------------------------------------------------------


def _complete(state: State, extra: dict[str, Any]) -> dict[str, Any]:
    state.asked += 1
    body = {
        "model": state.job["model"],
        "messages": state.messages,
        "temperature": 0,
        "max_tokens": ANSWER_TOKENS,
        **extra,
    }
    status, answer = state.send("/v1/chat/completions", body)
    if status != 200:
        error = answer.get("error")
        told = _mapping(error).get("message") or error
        raise Failed(f"The model could not be asked: {told or status}")
    choices = _listing(answer.get("choices"))
    if not choices:
        raise Failed("The model gave no answer.")
    return _mapping(_mapping(choices[0]).get("message"))


def call_tool(state: State, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One tool call over MCP; a protocol error comes back as a tool error."""
    state.asked += 1
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params: dict[str, Any] = {"name": name, "arguments": arguments, "_meta": meta}
    _, answer = state.send("/mcp", {"jsonrpc": "2.0", "id": state.asked, "method": "tools/call", "params": params})
    if "error" in answer:
        told = answer["error"].get("message", "")
        return {"content": [{"type": "text", "text": str(told)}], "isError": True}
    return answer.get("result") or {"content": [], "isError": True}


def _text(result: dict[str, Any]) -> str:
    parts = [
        str(part.get("text", ""))
        for part in map(_mapping, _listing(result.get("content")))
        if part.get("type") == "text"
    ]
    text = "\n".join(part for part in parts if part)
    if not text and result.get("structuredContent") is not None:
        text = json.dumps(result["structuredContent"], ensure_ascii=False)
    return text


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _listing(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
