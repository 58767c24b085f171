"""Start, wait for, cancel and look at runs: what REST, MCP and later triggers all call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jsonschema import Draft202012Validator

from agents.manifest import Manifest, fault_of
from agents.models import Run
from agents.runs.live import LiveRuns
from agents.runs.records import FINISHED, Records
from agents.runs.toolbox import scopes_for
from hub.errors import Forbidden, InvalidParams, NotFound

DEEPEST = 3
"""An agent that calls an agent that calls an agent: enough for work, too little for a loop to cost much."""
GRACE_SECONDS = 120.0
"""Beyond a run's own limit, for waiting in the queue and for giving everything back."""


class Enqueues(Protocol):
    """The durable engine, as starting a run needs it."""

    async def enqueue(self, run: str) -> None:
        """Have a run executed."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who wants a run, as the hub says. Only `kind` tells that it is a run: names are their maker's choice."""

    subject: str
    name: str = ""
    kind: str = ""
    scopes: frozenset[str] = frozenset()
    trace: str = ""
    on_behalf_of: str = ""

    @staticmethod
    def read(told: Mapping[str, Any]) -> Caller:
        """From `dev.entrepot/caller`. Raises `Forbidden` when the hub did not say who calls."""
        subject = told.get("subject")
        if not isinstance(subject, str) or not subject:
            raise Forbidden("An agent runs for somebody: the hub must say who calls.")
        return Caller(
            subject,
            str(told.get("name") or ""),
            str(told.get("kind") or ""),
            frozenset(told.get("scopes") or ()),
            str(told.get("trace") or ""),
            str(told.get("on_behalf_of") or ""),
        )


class RunService:
    """Runs as others see them."""

    def __init__(self, records: Records, live: LiveRuns, engine: Enqueues) -> None:
        self._records = records
        self._live = live
        self._engine = engine

    async def start(self, agent: str, given: Mapping[str, Any], caller: Caller, *, is_task: bool = False) -> Run:
        """Store a run and queue it; durable when this returns. Raises `InvalidParams` and `Forbidden`."""
        kept = await self._agent(agent)
        manifest = Manifest.model_validate(kept)
        if wrong := fault_of(Draft202012Validator(manifest.input), dict(given)):
            raise InvalidParams(f"The agent's input does not fit: {wrong}")
        parent = await self._parent(caller)
        if parent and parent.depth + 1 >= DEEPEST:
            raise Forbidden(f"Agents may call agents {DEEPEST} deep; this call would be deeper.")
        run = Run(
            agent=agent,
            manifest=kept,
            subject=caller.subject,
            on_behalf_of=acts_for(parent) if parent else caller.on_behalf_of,
            scopes=scopes_for(manifest, caller.scopes),
            depth=parent.depth + 1 if parent else 0,
            parent=parent.id if parent else "",
            trace=_trace(caller.trace),
            is_task=is_task,
            input=dict(given),
        )
        await asyncio.to_thread(self._records.add, run)
        await self._engine.enqueue(run.id)
        return run

    async def wait(self, run: Run, progress: Callable[[str], None]) -> Run:
        """Until the run has ended; cancelling the wait leaves it running. Raises `NotFound`."""
        manifest = Manifest.model_validate(run.manifest)
        with self._live.listening(run.id) as said:
            async with asyncio.timeout(manifest.limits.seconds + GRACE_SECONDS):
                while True:
                    now = await asyncio.to_thread(self._records.run, run.id)
                    if now.state in FINISHED:
                        return now
                    while (message := await said.get()) is not None:
                        progress(message)

    async def cancel(self, identifier: str) -> Run:
        """Ask a run to stop; it ends soon after. A finished one is given back as it is. Raises `NotFound`."""
        run = await asyncio.to_thread(self._records.cancel_asked, identifier)
        self._live.stop(identifier)
        return run

    async def run(self, identifier: str, subject: str = "") -> Run:
        """A run; with `subject`, only if it was started by that one. Raises `NotFound`."""
        run = await asyncio.to_thread(self._records.run, identifier)
        if subject and run.subject != subject:
            raise NotFound("There is no such run.")
        return run

    async def _agent(self, name: str) -> dict[str, Any]:
        try:
            agent = await asyncio.to_thread(self._records.agent, name)
        except NotFound as error:
            raise InvalidParams(f"Unknown tool: {name}") from error
        if not agent.enabled:
            raise InvalidParams(f"Unknown tool: {name}")
        return agent.manifest

    async def _parent(self, caller: Caller) -> Run | None:
        """The run that calls, where the caller is one. Raises `Forbidden` for a run key that is not that run's own."""
        if caller.kind != "run":
            return None
        try:
            parent = await asyncio.to_thread(self._records.run, caller.name)
        except NotFound as error:
            raise _not_its_key() from error
        # Anything looser would let a key that is only named after a run act for that run's owner; and a run without
        # its parent would begin at depth 0, so that agents could call agents without end.
        if caller.subject != f"run:{parent.key.removeprefix('key_')}" or caller.on_behalf_of != acts_for(parent):
            raise _not_its_key()
        return parent


def acts_for(run: Run) -> str:
    """The subject at the beginning of a run's chain of delegation."""
    return run.on_behalf_of or run.subject


def _not_its_key() -> Forbidden:
    return Forbidden("This run key does not belong to a run that is under way.")


def _trace(told: str) -> str:
    """The caller's trace id, or a new one: 32 hexadecimal digits, not all zero."""
    parts = told.split("-")
    candidate = (parts[1] if len(parts) == 4 else told).lower()
    fits = len(candidate) == 32 and all(letter in "0123456789abcdef" for letter in candidate) and candidate.strip("0")
    return candidate if fits else secrets.token_hex(16)
