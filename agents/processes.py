"""The processes that `entrepot up` keeps running for the agents; imports nothing heavy, since every start reads it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hub.settings import Settings


@dataclass(frozen=True, slots=True)
class Process:
    """A process that `up` keeps running."""

    name: str
    command: tuple[str, ...]


def processes(settings: Settings) -> Sequence[Process]:
    """The agents worker; none with `--bare`."""
    return () if settings.bare else (Process("agents", (sys.executable, "-m", "agents.worker")),)
