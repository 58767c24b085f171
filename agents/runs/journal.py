"""One request of a run as a durable step: written down before it is sent, answered from the journal when it was before.

A step that was under way when the worker died is asked again only where that is harmless; else its answer is
that nobody knows what became of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from agents.models import Step
from agents.runs.records import Records, Usage
from hub.errors import HubError


@dataclass(frozen=True, slots=True)
class Request:
    """What the sandbox asked for. `body` is what counts for telling one request from another."""

    kind: str
    name: str
    body: dict[str, Any]
    repeatable: bool

    @property
    def digest(self) -> str:
        """Same kind, name and body give the same digest."""
        content = orjson.dumps([self.kind, self.name, self.body], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Answered:
    """A step's answer: `response` as JSON, and how it went in one word."""

    outcome: str
    response: dict[str, Any]
    usage: Usage = Usage()


class Diverged(HubError):
    """A resumed run asked for something else than the first time: its answers cannot be replayed."""

    code = "diverged"


class Journal:
    """The steps of one run."""

    def __init__(self, records: Records, run: str) -> None:
        self._records = records
        self._run = run

    async def answer(self, number: int, request: Request, send: Callable[[], Awaitable[Answered]]) -> Answered:
        """The recorded answer of step `number`, or that of `send`, recorded. Raises `Diverged`."""
        kept = await asyncio.to_thread(self._records.step, self._run, number)
        if kept is None:
            step = Step(
                run=self._run,
                number=number,
                kind=request.kind,
                name=request.name,
                digest=request.digest,
                request=request.body,
            )
            await asyncio.to_thread(self._records.begin_step, step)
        elif kept.digest != request.digest:
            raise Diverged(
                f"After a restart, step {number} was {request.kind} {request.name!r} "
                f"with other content than before ({kept.kind} {kept.name!r}).",
                hint="An agent must ask the same again when it gets the same answers.",
            )
        elif kept.outcome:
            return Answered(kept.outcome, kept.response or {})
        elif not request.repeatable:
            return await self._complete(number, time.monotonic(), _unknown(request))
        began = time.monotonic()
        return await self._complete(number, began, await send())

    async def _complete(self, number: int, began: float, answered: Answered) -> Answered:
        milliseconds = round((time.monotonic() - began) * 1000, 1)
        await asyncio.to_thread(
            self._records.complete_step,
            self._run,
            number,
            answered.outcome,
            milliseconds,
            answered.response,
            answered.usage,
        )
        return answered


def _unknown(request: Request) -> Answered:
    text = (
        f"The outcome of {request.name} is unknown: the platform stopped while it was under way. "
        "It may have had its effect. It was not repeated."
    )
    return Answered("outcome-unknown", {"content": [{"type": "text", "text": text}], "isError": True})
