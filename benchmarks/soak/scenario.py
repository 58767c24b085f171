"""What a scenario is handed, and what it tells: figures, each beside the bound that it must keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a scenario may take, and the seed of whatever it draws."""

    minutes: float
    seed: int

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.minutes * 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure as measured, and the bound in words; `kept` says whether the figure is inside."""

    what: str
    figure: str
    bound: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to run for minutes. `run` starts and ends every process that it needs."""

    name: str
    about: str
    run: Callable[[Plan], Sequence[Finding]]
    minutes: float
    """How long it takes when nothing else is asked for."""
