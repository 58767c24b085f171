"""Tokens and calls per model and caller: kept in memory for people, and as metrics for machines."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Histogram

CALLERS_REMEMBERED = 10_000
"""Pairs of model and caller; the one that was idle longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one request, or many, took in and gave out."""

    input: int = 0
    output: int = 0
    estimated: bool = False
    """The engine did not count, so the hub guessed from the text."""

    def __add__(self, other: Tokens) -> Tokens:
        """Both together."""
        return Tokens(self.input + other.input, self.output + other.output, self.estimated or other.estimated)

    def wire(self) -> dict[str, Any]:
        """As `usage` in an answer."""
        counted: dict[str, Any] = {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
        }
        return counted | {"estimated": True} if self.estimated else counted


@dataclass(frozen=True, slots=True)
class Total:
    """Everything one caller had from one model since the start of this process."""

    model: str
    subject: str
    calls: int = 0
    failures: int = 0
    tokens: Tokens = Tokens()


class Usage:
    """The counters of one process."""

    def __init__(self, metrics: CollectorRegistry | None = None) -> None:
        registry = metrics or CollectorRegistry()
        self._totals: OrderedDict[tuple[str, str], Total] = OrderedDict()
        self._tokens = Counter(
            "entrepot_model_tokens", "Tokens, by direction (input, output).", ("model", "direction"), registry=registry
        )
        self._requests = Counter(
            "entrepot_model_requests", "Requests to models, by outcome.", ("model", "outcome"), registry=registry
        )
        self._seconds = Histogram(
            "entrepot_model_seconds",
            "Seconds that a model's answer took.",
            ("model",),
            registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )

    def record(self, model: str, subject: str, tokens: Tokens, *, outcome: str, seconds: float) -> None:
        """Count one finished request; `outcome` is `ok`, `cancelled` or an error's code."""
        key = (model, subject)
        had = self._totals.pop(key, Total(model, subject))
        failed = had.failures + (outcome != "ok")
        self._totals[key] = Total(model, subject, had.calls + 1, failed, had.tokens + tokens)
        if len(self._totals) > CALLERS_REMEMBERED:
            self._totals.popitem(last=False)
        self._tokens.labels(model, "input").inc(tokens.input)
        self._tokens.labels(model, "output").inc(tokens.output)
        self._requests.labels(model, outcome).inc()
        self._seconds.labels(model).observe(seconds)

    def totals(self) -> tuple[Total, ...]:
        """All counters, the busiest caller first."""
        return tuple(sorted(self._totals.values(), key=lambda total: -total.calls))


def counted(answer: dict[str, Any]) -> Tokens | None:
    """The tokens that an engine's answer or chunk says it took; None where it does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    said = cast("dict[str, Any]", usage)
    return Tokens(_whole(said.get("prompt_tokens")), _whole(said.get("completion_tokens")))


def guessed(text: str) -> int:
    """Tokens of a text, at four letters each, or one each where the script is dense (Chinese, Japanese, Korean)."""
    dense = sum(1 for letter in text if ord(letter) >= 0x2E80)
    return dense + (len(text) - dense + 3) // 4


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
