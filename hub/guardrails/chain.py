"""Guardrails in order: each looks at the bytes of one phase and lets them through, replaces or refuses them.

A guardrail refuses by raising a `HubError`; it never widens what admission decided. What happens when one
itself breaks is declared by it, as an enum.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from hub.catalog.snapshot import Server, Target
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


class Looked(msgspec.Struct, frozen=True):
    """What is looked at, beside the bytes."""

    phase: Phase
    principal: Principal
    server: Server
    target: Target


class Guardrail(Protocol):
    """One check. `phases` says when it is asked, `broken` what its failure means."""

    name: str
    phases: frozenset[Phase]
    broken: Broken

    def look(self, looked: Looked, body: bytes) -> bytes | Awaitable[bytes]:
        """The bytes to go on with, at once or awaited. Raises `HubError` to refuse."""
        ...


class Guardrails:
    """The chain, in the order given. With no guardrail for a phase it costs one look-up."""

    def __init__(self, guardrails: Sequence[Guardrail] = ()) -> None:
        self._by_phase = {phase: tuple(one for one in guardrails if phase in one.phases) for phase in Phase}

    async def run(self, looked: Looked, body: bytes) -> bytes:
        """The bytes after every guardrail of the phase. Raises the first refusal."""
        for guardrail in self._by_phase[looked.phase]:
            try:
                seen = guardrail.look(looked, body)
                # Those that need not wait cost no coroutine.
                body = seen if isinstance(seen, bytes) else await seen
            except HubError:
                raise
            except Exception as error:  # foreign code: its declared enum decides
                log.error("guardrail %s broke: %s", guardrail.name, type(error).__name__)
                if guardrail.broken is Broken.PASS:
                    continue
                raise Unavailable(
                    f"The guardrail {guardrail.name} is not working, so nothing passes it.",
                    hint="Ask an administrator to look at the hub's log.",
                ) from error
        return body
