"""Guardrails in order: each looks at the bytes of one phase and lets them through, replaces or refuses them.

A guardrail refuses by raising a `HubError`; it never widens what admission decided. What happens when one
itself breaks is declared by it, as an enum.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hub.errors import HubError, Unavailable
from hub.identity.principal import Principal

log = logging.getLogger(__name__)


class Phase(Enum):
    """What the bytes are."""

    ARGUMENTS = "arguments"
    RESULT = "result"


class Broken(Enum):
    """What a guardrail's own failure means."""

    REFUSE = "refuse"
    """Fail closed: what could not be looked at does not pass."""
    PASS = "pass"
    """Fail open: the call goes on, and the log says that nobody looked."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What is looked at, beside the bytes."""

    phase: Phase
    principal: Principal
    server: str
    target: str


class Guardrail(Protocol):
    """One check. `phases` says when it is asked, `broken` what its failure means."""

    name: str
    phases: frozenset[Phase]
    broken: Broken

    async def look(self, looked: Looked, body: bytes) -> bytes:
        """The bytes to go on with. Raises `HubError` to refuse."""
        ...


class Guardrails:
    """The chain, in the order given. With no guardrail for a phase it costs one look-up."""

    def __init__(self, guardrails: Sequence[Guardrail] = ()) -> None:
        self._by_phase = {phase: tuple(one for one in guardrails if phase in one.phases) for phase in Phase}

    async def run(self, phase: Phase, principal: Principal, server: str, target: str, body: bytes) -> bytes:
        """The bytes after every guardrail of the phase. Raises the first refusal."""
        chain = self._by_phase[phase]
        if not chain:
            return body
        looked = Looked(phase, principal, server, target)
        for guardrail in chain:
            body = await self._one(guardrail, looked, body)
        return body

    async def _one(self, guardrail: Guardrail, looked: Looked, body: bytes) -> bytes:
        try:
            return await guardrail.look(looked, body)
        except HubError:
            raise
        except Exception as error:  # foreign code: its declared enum decides
            log.error("guardrail %s broke: %s", guardrail.name, type(error).__name__)
            if guardrail.broken is Broken.PASS:
                return body
            raise Unavailable(
                f"The guardrail {guardrail.name} is not working, so nothing passes it.",
                hint="Ask an administrator to look at the hub's log.",
            ) from error
