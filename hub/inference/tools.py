"""Tool calls for models that make none themselves: the hub chooses, or lets the model choose, under a constraint.

Every call that leaves here names a tool of the request and has arguments that its schema accepts. Who chooses is a
matter of the model's size (`Parameters.planner`); parallel calls are never made.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from hub.errors import BadRequest
from hub.ids import new_id
from hub.inference import arguments as args
from hub.inference import transcript
from hub.inference.ranking import Embed, Ranked, Ranker, Tool
from hub.inference.relay import ModelFailed
from hub.inference.spec import Model
from hub.inference.usage import Tokens, counted

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Sends one chat request to the endpoint: the body without `model` and `stream`."""

SURE = 0.15
"""A best tool below this score was not asked for; open questions then go to a search tool. Measured on 26 prompts
in English and Chinese with USE multilingual: right tools score 0.15-0.67, wrong ones up to 0.13."""

EVIDENCE = 0.25
"""Added to a tool whose argument can be read from the words as it stands."""

CHATTER = 0.42
"""Nearness to small talk from which no tool is meant; questions that need a tool stay below 0.32."""

SMALL_TALK = (
    "Hello, how are you?", "Good morning", "Thank you very much", "Goodbye", "Who are you and what can you do?",
    "Tell me a joke", "Write a poem or a story", "你好", "谢谢", "再见", "你是谁？你能做什么？",
)  # fmt: skip
NONE = "answer_directly"
"""What a model that chooses itself says to use no tool; given more underscores if a tool has this name."""

_ASKS = re.compile(
    r"[?？吗呢]|\b(what|who|whom|whose|which|when|where|why|how|find|search|look up|show|list|tell me|explain)\b"
    r"|什么|怎么|如何|为什么|多少|哪|谁|查|找|搜",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call, as it will stand in the answer."""

    name: str
    arguments: dict[str, Any]

    def wire(self) -> dict[str, Any]:
        """As an entry of `tool_calls`."""
        function = {"name": self.name, "arguments": transcript.compact(self.arguments)}
        return {"id": new_id("call_"), "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Decision:
    """A call, or none: then the conversation goes on in words. `tokens` is what deciding took."""

    call: Call | None
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Choice:
    """What `tool_choice` leaves open: the tools that may be called, and whether one must be."""

    tools: tuple[Tool, ...]
    must: bool


def read_choice(request: dict[str, Any]) -> Choice:
    """The tools of a request under its `tool_choice`. Raises `BadRequest` for one that names no tool of it."""
    tools = tuple(_tool(entry) for entry in cast("list[dict[str, Any]]", request.get("tools") or []))
    wanted: Any = request.get("tool_choice") or "auto"
    if wanted == "none":
        return Choice((), must=False)
    if wanted in ("auto", "required"):
        return Choice(tools, must=wanted == "required")
    function: Any = cast("dict[str, Any]", wanted).get("function") if isinstance(wanted, dict) else None
    name: Any = cast("dict[str, Any]", function).get("name") if isinstance(function, dict) else None
    chosen = tuple(tool for tool in tools if tool.name == name)
    if not chosen:
        raise BadRequest(
            "tool_choice must be auto, none, required or a function that is among the tools.",
            data={"param": "tool_choice"},
        )
    return Choice(chosen, must=True)


class Shim:
    """Decides on tool calls; one for all models of a process."""

    def __init__(self) -> None:
        self._ranker = Ranker()
        self._without_grammar: set[str] = set()

    async def decide(self, model: Model, request: dict[str, Any], ask: Ask, embed: Embed | None) -> Decision:
        """The next call that a request with tools leads to, or none.

        Raises `BadRequest` for an impossible choice, `ModelFailed` when no valid arguments came about.
        """
        choice = read_choice(request)
        messages = cast("list[dict[str, Any]]", request["messages"])
        if not choice.tools:
            return Decision(None, Tokens())
        tally = _Tally(ask)
        ranked = model.parameters.planner == "ranked" or (model.parameters.planner is None and embed is not None)
        if choice.must and len(choice.tools) == 1:
            tool: Tool | None = choice.tools[0]
        elif ranked:
            tool = await self._by_rank(choice, messages, embed)
        else:
            tool = await self._by_model(choice, messages, tally)
        if tool is None:
            return Decision(None, tally.tokens)
        found = await self._arguments(model, tool, messages, tally, from_words=ranked)
        return Decision(Call(tool.name, found), tally.tokens)

    async def _by_rank(self, choice: Choice, messages: list[dict[str, Any]], embed: Embed | None) -> Tool | None:
        words = transcript.question(messages)
        if not choice.must and (transcript.has_results(messages) or not words.strip()):
            return None
        made = {name for name, _ in transcript.calls_made(messages)}
        tools = [tool for tool in choice.tools if tool.name not in made] or list(choice.tools)
        if not choice.must and await self._is_chatter(words, embed):
            return None
        ranked = [
            Ranked(entry.tool, entry.score + EVIDENCE * args.evidence(entry.tool.schema, words))
            for entry in await self._ranker.rank(words, tools, embed)
        ]
        best = max(ranked, key=lambda entry: entry.score)
        if best.score >= SURE:
            return best.tool
        searches = [entry for entry in ranked if args.is_search(entry.tool.schema)]
        if searches and _ASKS.search(words):
            return searches[0].tool
        return best.tool if choice.must else None

    async def _is_chatter(self, words: str, embed: Embed | None) -> bool:
        near = await self._ranker.nearness(words, SMALL_TALK, embed)
        return max(near) >= CHATTER

    async def _by_model(self, choice: Choice, messages: list[dict[str, Any]], tally: _Tally) -> Tool | None:
        none = NONE
        while any(tool.name == none for tool in choice.tools):
            none += "_"
        names = [tool.name for tool in choice.tools] + ([] if choice.must else [none])
        schema: dict[str, Any] = {
            "type": "object", "properties": {"tool": {"type": "string", "enum": names}},
            "required": ["tool"], "additionalProperties": False,
        }  # fmt: skip
        listed = "\n".join(f"- {tool.name}: {tool.description}" for tool in choice.tools)
        told = f"Choose the one tool that is needed next.\n{listed}"
        if not choice.must:
            told += f"\n- {none}: no tool is needed, or the results above suffice"
        answer = await tally.object(_told(told, messages), _json_schema(schema), max_tokens=60)
        return next((tool for tool in choice.tools if tool.name == answer.get("tool")), None)

    async def _arguments(
        self, model: Model, tool: Tool, messages: list[dict[str, Any]], tally: _Tally, *, from_words: bool
    ) -> dict[str, Any]:
        words = transcript.question(messages)
        planned = args.plan(tool.schema, words) if from_words else None
        if planned is not None and not planned.open and not args.fault(tool.schema, planned.settled):
            return planned.settled
        told = f"Fill in the arguments of the tool {tool.name} ({tool.description}) from the user's words, as JSON."
        listing = _described(tool.schema)
        asked = _told(f"{told}\n{listing}" if listing else told, messages)
        faults: list[str] = []
        for constraint, settled in self._constraints(model, tool, planned, words):
            try:
                answer = await tally.object(asked, constraint, max_tokens=400)
            except BadRequest as error:
                if "grammar" not in constraint:
                    raise
                self._without_grammar.add(model.name)
                faults.append(error.message)
                continue
            if not answer and "grammar" in constraint:
                self._without_grammar.add(model.name)
            found = settled | answer
            fault = args.fault(tool.schema, found)
            if not fault:
                return found
            faults.append(fault)
        raise ModelFailed(
            f"Model {model.name!r} found no valid arguments for the tool {tool.name!r}: {faults[-1]}",
            hint="Say all that the tool needs in the last message, or use a larger model.",
        )

    def _constraints(
        self, model: Model, tool: Tool, planned: args.Plan | None, words: str
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What to decode under, the narrowest first, each with the arguments that are settled beside it."""
        free = {"type": "object"} | tool.schema
        tries: list[tuple[dict[str, Any], dict[str, Any]]] = [(_json_schema(free), {})]
        if planned is None or not planned.open:
            return tries
        narrow = args.constrained(tool.schema, planned.open, words)
        tries.insert(0, (_json_schema(narrow), planned.settled))
        # An engine on a local socket is most likely our own, which knows LLGuidance; the first refusal settles it.
        known = model.facts.get("grammar", "llguidance" if model.socket else "")
        if known == "llguidance" and model.name not in self._without_grammar:
            tries.insert(0, ({"grammar": args.grammar(tool.schema, planned.open, words)}, planned.settled))
        return tries


class _Tally:
    """Asks under a constraint, and counts."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.tokens = Tokens()

    async def object(
        self, messages: list[dict[str, Any]], constraint: dict[str, Any], *, max_tokens: int
    ) -> dict[str, Any]:
        body = {"messages": messages, "temperature": 0, "max_tokens": max_tokens} | constraint
        answer = await self._ask(body)
        self.tokens = self.tokens + (counted(answer) or Tokens())
        try:
            value: Any = orjson.loads(answer["choices"][0]["message"]["content"] or "")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _tool(entry: dict[str, Any]) -> Tool:
    function = cast("dict[str, Any]", entry["function"])
    schema: Any = function.get("parameters")
    return Tool(
        str(function["name"]),
        str(function.get("description") or ""),
        cast("dict[str, Any]", schema) if isinstance(schema, dict) else {"type": "object", "properties": {}},
    )


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}}


def _told(instruction: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with one more instruction: at the front, where every chat template allows it."""
    plain = transcript.without_tools(messages)
    if plain and plain[0].get("role") in ("system", "developer"):
        first = {"role": "system", "content": f"{transcript.text_of(plain[0])}\n\n{instruction}"}
        return [first, *plain[1:]]
    return [{"role": "system", "content": instruction}, *plain]


def _described(schema: dict[str, Any]) -> str:
    properties: Any = schema.get("properties")
    if not isinstance(properties, dict):
        return ""
    lines: list[str] = []
    for name, kind in cast("dict[str, Any]", properties).items():
        about = cast("dict[str, Any]", kind) if isinstance(kind, dict) else {}
        lines.append(f"- {name} ({about.get('type', 'any')}): {about.get('description', '')}")
    return "\n".join(lines)
