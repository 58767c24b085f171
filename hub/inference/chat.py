"""One chat completion, whole or streamed: tools decided where the engine cannot, the rest relayed and counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from hub.ids import Clock, new_id, system_clock
from hub.inference import transcript
from hub.inference.embeddings import vectors
from hub.inference.ranking import Embed
from hub.inference.registry import Models
from hub.inference.relay import ModelFailed, Relay
from hub.inference.requests import ChatRequest, for_engine
from hub.inference.spec import Model
from hub.inference.stream import Passage, event, payloads
from hub.inference.tools import Decision, Shim
from hub.inference.usage import Tokens, counted, guessed

PATH = "/chat/completions"


class Count:
    """The tokens of one request, as far as it came."""

    def __init__(self) -> None:
        self.tokens = Tokens()


class Chat:
    """Completions by any registered model."""

    def __init__(self, models: Models, relay: Relay, clock: Clock = system_clock) -> None:
        self._models = models
        self._relay = relay
        self._clock = clock
        self._shim = Shim()

    async def complete(self, model: Model, given: dict[str, Any], count: Count) -> dict[str, Any]:
        """The whole answer. Raises as `Relay.ask` and `Shim.decide`."""
        sent = for_engine(model, given)
        if _needs_shim(model, sent):
            decision = await self._decide(model, sent)
            count.tokens = decision.tokens
            if decision.call is not None:
                return self._calling(model, decision)
            sent = _in_words(sent)
        sent.pop("stream", None)
        sent.pop("stream_options", None)
        answer = await self._relay.ask(model, PATH, sent)
        if not isinstance(answer.get("choices"), list) or not answer["choices"]:
            raise ModelFailed(f"Model {model.name!r} answered without choices.")
        took = counted(answer) or Tokens(guessed(_prompt(given)), guessed(_said(answer)), estimated=True)
        count.tokens += took
        return answer | {"model": model.name, "usage": _usage(answer, took, count.tokens)}

    async def stream(
        self, model: Model, request: ChatRequest, given: dict[str, Any], count: Count
    ) -> AsyncGenerator[bytes]:
        """The answer's events, without the closing `[DONE]`. Raises as `complete`, also in the middle."""
        wanted = bool(request.stream_options and request.stream_options.include_usage)
        sent = for_engine(model, given)
        if _needs_shim(model, sent):
            decision = await self._decide(model, sent)
            count.tokens = decision.tokens
            if decision.call is not None:
                for chunk in _chunks(self._calling(model, decision), usage=wanted):
                    yield event(chunk)
                return
            sent = _in_words(sent)
        sent["stream"] = True
        sent["stream_options"] = {"include_usage": True}
        before = count.tokens
        passage = Passage(model, usage_wanted=wanted, prompt=_prompt(given))
        try:
            async with (
                self._relay.stream(model, PATH, sent) as pieces,
                aclosing(payloads(model, pieces, self._relay.bounds.event_bytes)) as data,
                aclosing(passage.events(data)) as events,
            ):
                async for piece in events:
                    yield piece
        finally:
            count.tokens = before + passage.tokens

    async def _decide(self, model: Model, sent: dict[str, Any]) -> Decision:
        async def ask(body: dict[str, Any]) -> dict[str, Any]:
            return await self._relay.ask(model, PATH, body | {"model": model.asked_as})

        return await self._shim.decide(model, sent, ask, self._embed_for(model))

    def _embed_for(self, model: Model) -> Embed | None:
        ranker = self._models.embedding_model(model.parameters.embedding_model)
        if ranker is None:
            return None

        async def embed(texts: list[str]) -> list[list[float]]:
            rows, _ = await vectors(self._relay, ranker, texts)
            return rows

        return embed

    def _calling(self, model: Model, decision: Decision) -> dict[str, Any]:
        assert decision.call is not None
        message = {"role": "assistant", "content": None, "tool_calls": [decision.call.wire()]}
        return {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(self._clock()),
            "model": model.name,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}],
            "usage": decision.tokens.wire(),
        }


def _needs_shim(model: Model, sent: dict[str, Any]) -> bool:
    if model.native_tools:
        return False
    used = ("tool", "function")
    messages = cast("list[dict[str, Any]]", sent["messages"])
    return bool(sent.get("tools")) or any(m.get("role") in used or m.get("tool_calls") for m in messages)


def _in_words(sent: dict[str, Any]) -> dict[str, Any]:
    """The request for an engine that is to know nothing of tools."""
    kept = {key: value for key, value in sent.items() if key not in ("tools", "tool_choice", "parallel_tool_calls")}
    return kept | {"messages": transcript.without_tools(sent["messages"])}


def _chunks(whole: dict[str, Any], *, usage: bool) -> list[dict[str, Any]]:
    """A finished answer as the deltas of a stream."""
    frame = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = whole["choices"][0]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{"tool_calls": [{"index": at} | call]} for at, call in enumerate(choice["message"]["tool_calls"])]
    chunks = [frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    return [*chunks, frame | {"choices": [], "usage": whole["usage"]}] if usage else chunks


def _usage(answer: dict[str, Any], took: Tokens, total: Tokens) -> dict[str, Any]:
    """The engine's own usage with its details, unless deciding on tools took more beside it."""
    own: Any = answer.get("usage")
    return cast("dict[str, Any]", own) if took == total and isinstance(own, dict) else total.wire()


def _prompt(given: dict[str, Any]) -> str:
    return "\n".join(transcript.text_of(message) for message in given["messages"])


def _said(answer: dict[str, Any]) -> str:
    return "\n".join(transcript.text_of(choice.get("message") or {}) for choice in answer["choices"])
