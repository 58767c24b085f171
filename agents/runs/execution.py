"""One run from its start to its end: key, tools, border, sandbox, answer, and everything given back.

It decides what a request of the run may do: the tool must be in the run's box, the budget must allow it, and it
happens as a journalled step. What the run may reach at all, the hub decides by the run's key.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from agents.border import Border, listening
from agents.budget import Budget, LimitReached, usage_of
from agents.manifest import Manifest, fault_of
from agents.models import Run
from agents.runs.journal import Answered, Diverged, Journal, Request
from agents.runs.live import LiveRuns
from agents.runs.records import Records
from agents.runs.sandbox import Sandboxes, job_for, killed
from agents.runs.toolbox import Tool, Toolbox, collect, pick_model
from agents.wire.hub import HubAddress, HubAdmin, HubFace
from agents.wire.shapes import mapping
from hub.errors import HubError, NotFound

log = logging.getLogger("agents.runs")

CHANCES = 2
"""Results that may be offered: the first, and one more after being told what does not fit."""
LONGEST_ERROR = 1000

Durably = Callable[[int, Callable[[], Awaitable[dict[str, Any]]]], Awaitable[dict[str, Any]]]
"""Runs a step under the durable engine: its number, and what to do."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every execution needs."""

    records: Records
    live: LiveRuns
    hub: HubAddress
    admin: HubAdmin
    sandboxes: Sandboxes
    borders: Path
    """Folder below which each run has its socket."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    state: str
    output: dict[str, Any] | None = None
    error: str = ""


class Execution:
    """Executes one run; also the `Desk` of its border."""

    def __init__(self, around: Surroundings, run: Run, durably: Durably) -> None:
        self._around = around
        self._run = run
        self._durably = durably
        self._manifest = Manifest.model_validate(run.manifest)
        self._journal = Journal(around.records, run.id)
        self._budget = Budget(self._manifest.limits)
        self._schema = Draft202012Validator(self._manifest.output)
        self._number = 0
        self._offered = 0
        self._turn = asyncio.Lock()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._toolbox = Toolbox((), {}, "")
        self._hub: HubFace

    async def execute(self) -> Ending:
        """Until the agent has answered, failed, been stopped, or run out of what it may use. Raises nothing of ours."""
        with self._around.live.stoppable(self._run.id) as stop:
            if (await asyncio.to_thread(self._around.records.run, self._run.id)).cancel_asked:
                return Ending("cancelled", error="The run was cancelled.")
            work = asyncio.create_task(self._work())
            stopped = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({work, stopped}, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
                if stop.is_set():
                    return Ending("cancelled", error="The run was cancelled.")
                return Ending(
                    "failed", error=f"The run reached its limit of {self._manifest.limits.seconds:g} seconds."
                )
            except HubError as error:
                return Ending("failed", error=error.message)
            finally:
                stopped.cancel()
                work.cancel()
                await asyncio.wait({work}, timeout=30)

    def _left(self) -> float:
        began = self._run.started or self._run.created
        return max(0.0, began.timestamp() + self._manifest.limits.seconds - time.time())

    async def _work(self) -> Ending:
        async with self._key() as token, HubFace(self._around.hub, token, self._run.trace, self._left() + 5) as hub:
            self._hub = hub
            # Step 0: a resumed run must see the tools that it saw the first time, whatever the hub offers now.
            asked = Request("tools", "list", {"tools": list(self._manifest.tools)}, repeatable=True)
            found = await self._step(0, asked, self._collect)
            self._toolbox = Toolbox.restore(found.response)
            border = self._around.borders / self._run.id.removeprefix("run_")
            try:
                async with listening(Border(self, self._toolbox), border / "border.sock"):
                    return await self._live(border)
            finally:
                await asyncio.to_thread(shutil.rmtree, border, True)

    async def _live(self, border: Path) -> Ending:
        job = job_for(self._manifest, border, self._left() + 5)
        process = asyncio.create_task(self._around.sandboxes.run(job))
        try:
            await asyncio.wait({process, self._ending}, return_when=asyncio.FIRST_COMPLETED)
            if self._ending.done():
                return self._ending.result()
            return Ending("failed", error=f"The agent ended without an answer ({process.result().describe()}).")
        finally:
            await killed(process)

    @asynccontextmanager
    async def _key(self) -> AsyncGenerator[str]:
        """A run key for the time of the block. One that a crash left behind is revoked first."""
        admin = self._around.admin
        if self._run.key:
            await self._revoke(self._run.key)
        acts_for = self._run.on_behalf_of or self._run.subject
        key, token = await admin.issue(self._run.id, self._run.scopes, acts_for, self._left() + 60)
        await asyncio.to_thread(self._around.records.key_issued, self._run.id, key)
        try:
            yield token
        finally:
            await asyncio.shield(self._revoke(key))

    async def _revoke(self, key: str) -> None:
        try:
            await self._around.admin.revoke(key)
        except HubError as error:
            # It expires by itself shortly after the run; the run's outcome must not depend on it.
            log.warning("run %s: its key could not be revoked: %s", self._run.id, error.message)

    # --- the desk ---------------------------------------------------------------------------------------------

    def job(self) -> dict[str, Any]:
        """What the built-in loop needs to know."""
        manifest = self._manifest
        return {
            "instructions": manifest.instructions,
            "input": self._run.input,
            "output": manifest.output,
            "plan": [call.model_dump() for call in manifest.plan],
            "steps": manifest.limits.steps,
            "model": self._toolbox.model,
            "small": self._toolbox.small,
            "embedder": self._toolbox.embedder,
            "tools": [
                {
                    "name": tool.shown,
                    "address": tool.address,
                    "description": tool.definition.get("description", ""),
                    "parameters": tool.definition.get("inputSchema") or {"type": "object"},
                }
                for tool in self._toolbox.tools
            ],
        }

    async def model(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One model request as a step. The model is the manifest's, whatever the agent wrote."""
        chat = path.endswith("/completions")
        if chat or not body.get("model"):
            body = body | {"model": self._toolbox.model}
        request = Request("model", str(body["model"]), {"path": path, **body}, repeatable=True)

        async def send() -> Answered:
            try:
                name = await pick_model(str(body["model"]), self._hub)
                status, answer = await self._hub.model(path, body | {"model": name})
            except HubError as error:
                status, answer = error.status, {"error": {"message": error.message, "type": error.code}}
            outcome = "ok" if status == 200 else f"error {status}"
            return Answered(outcome, {"status": status, "body": answer}, usage_of(answer))

        answered = await self._next(request, send, f"asking {request.name}")
        return answered.response["status"], answered.response["body"]

    async def tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One tool call as a step; what is not in the box is refused in words that the agent can use."""
        tool = self._toolbox.find(name)
        if tool is None:
            return _refused(name, self._toolbox.missing_reason(name))
        request = Request("tool", tool.address, dict(arguments), tool.repeatable)

        async def send() -> Answered:
            try:
                result = await self._hub.call(tool.server, tool.name, arguments)
            except HubError as error:
                return Answered(error.code, _tool_error(f"{tool.address}: {error.message}"))
            return Answered("tool-error" if result.get("isError") else "ok", result)

        return (await self._next(request, send, _doing(tool))).response

    async def result(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take the answer, if it fits the output schema; once more after a fault, then the run fails honestly."""
        if self._ending.done():
            return {"accepted": True}
        if told := body.get("error"):
            self._end(Ending("failed", error=str(told)[:LONGEST_ERROR]))
            return {"accepted": True}
        output = body.get("output")
        wrong = fault_of(self._schema, output)
        if not wrong:
            self._end(Ending("done", output))
            return {"accepted": True}
        self._offered += 1
        fault = wrong[:LONGEST_ERROR]
        if self._offered >= CHANCES:
            self._end(Ending("failed", error=f"The agent's answer does not fit its output schema: {fault}"))
        return {"accepted": False, "fault": fault, "last": self._offered >= CHANCES}

    async def _next(self, request: Request, send: Callable[[], Awaitable[Answered]], doing: str) -> Answered:
        async with self._turn:
            self._number += 1
            number = self._number
            try:
                self._budget.take_step(number)
                self._around.live.say(self._run.id, f"step {number}: {doing}")
                answered = await self._step(number, request, send)
            except (LimitReached, Diverged) as error:
                self._end(Ending("failed", error=error.message))
                raise
            self._budget.spent(answered.usage if request.kind != "model" else usage_of(answered.response["body"]))
            return answered

    async def _step(self, number: int, request: Request, send: Callable[[], Awaitable[Answered]]) -> Answered:
        answers: list[Answered] = []

        async def perform() -> dict[str, Any]:
            answers.append(await self._journal.answer(number, request, send))
            return {"digest": request.digest, "outcome": answers[-1].outcome}

        recorded = await self._durably(number, perform)
        if recorded["digest"] != request.digest:
            raise Diverged(f"After a restart, step {number} asked for something else than before.")
        if not answers:
            # The engine had this step already and did not perform it: the answer lies in the journal.
            answers.append(await self._journal.answer(number, request, _never))
        return answers[-1]

    async def _collect(self) -> Answered:
        return Answered("ok", (await collect(self._manifest, self._hub, self._around.admin)).record())

    def _end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)


async def _never() -> Answered:
    raise NotFound("A step that was recorded is no longer in the journal.")


def _doing(tool: Tool) -> str:
    title: str = tool.definition.get("title") or mapping(tool.definition.get("annotations")).get("title") or ""
    return f"{title or tool.name.replace('_', ' ')} ({tool.address})"


def _refused(name: str, reason: str) -> dict[str, Any]:
    why = f" Its server cannot be used: {reason}" if reason else " It is not among this agent's tools."
    return _tool_error(f"The tool {name!r} is not available.{why}")


def _tool_error(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": True}
