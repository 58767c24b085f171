"""Where a run stops: steps, tokens and money, counted from its journal; seconds are kept by its execution."""

from __future__ import annotations

from typing import Any

from agents.manifest import Limits
from agents.runs.records import Usage
from agents.wire.shapes import mapping
from hub.errors import HubError


class LimitReached(HubError):
    """A run used up what its manifest allows. The run fails with this message."""

    code, status, owner = "limit-reached", 429, "client"


class Budget:
    """What is left of one run's limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tokens = 0
        self._money = 0.0

    def take_step(self, number: int) -> None:
        """Before step `number` (from 1) is sent. Raises `LimitReached`."""
        if number > self._limits.steps:
            raise LimitReached(f"The run reached its limit of {self._limits.steps} steps.")
        if self._tokens >= self._limits.tokens:
            raise LimitReached(f"The run reached its limit of {self._limits.tokens} tokens.")
        if self._limits.money is not None and self._money >= self._limits.money:
            raise LimitReached(f"The run reached its limit of {self._limits.money} in money.")

    def spent(self, usage: Usage) -> None:
        """After a step was answered, from the journal or not."""
        self._tokens += usage.input_tokens + usage.output_tokens
        self._money += usage.cost


def usage_of(response: dict[str, Any]) -> Usage:
    """What a model's answer says that it used; nothing where it does not say."""
    told = mapping(response.get("usage"))
    return Usage(_number(told, "prompt_tokens"), _number(told, "completion_tokens"), float(told.get("cost") or 0))


def _number(told: dict[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) else 0
