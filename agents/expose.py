"""Agents as MCP tools: their definitions, a call that waits for its run, and a run as a Task."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from agents.manifest import Manifest
from agents.models import Run
from agents.runs.records import Records
from agents.runs.service import Caller, RunService
from agents.wire.face import Progress, ToolCall
from agents.wire.shapes import listing, mapping
from hub.errors import HubError, InvalidParams, NotFound, UpstreamTimeout

POLL_MILLISECONDS = 1_000
STATUS = {"queued": "working", "running": "working", "done": "completed", "failed": "completed"}
"""A run that failed is a completed task with `isError`: `failed` is for protocol errors only (Tasks extension)."""


class Agents:
    """The tool source behind the worker's MCP face."""

    def __init__(self, records: Records, service: RunService) -> None:
        self._records = records
        self._service = service

    async def tools(self) -> list[dict[str, Any]]:
        """One tool for each enabled agent, by name."""
        agents = await asyncio.to_thread(self._records.agents)
        return [definition(Manifest.model_validate(agent.manifest)) for agent in agents if agent.enabled]

    async def call(self, call: ToolCall, progress: Progress) -> dict[str, Any]:
        """Run the agent; a client that declared the Tasks extension gets the run as a task at once."""
        run = await self._service.start(call.name, call.arguments, Caller.read(call.caller), is_task=call.tasks)
        if call.tasks:
            return as_task(run) | {"resultType": "task", "_meta": meta_of(run)}
        try:
            return result_of(await self._service.wait(run, progress))
        except asyncio.CancelledError:
            await asyncio.shield(self._service.cancel(run.id))
            raise
        except TimeoutError as error:
            await self._service.cancel(run.id)
            raise UpstreamTimeout("The run did not end in time; it was asked to stop.") from error

    async def task(self, verb: str, task: str, caller: Mapping[str, Any]) -> dict[str, Any]:
        """`tasks/get`, `tasks/update` and `tasks/cancel` for the one who started the run, nobody else."""
        try:
            run = await self._service.run(task, Caller.read(caller).subject)
        except NotFound as error:
            raise InvalidParams("There is no such task.") from error
        if not run.is_task:
            raise InvalidParams("There is no such task.")
        if verb == "tasks/cancel":
            await self._service.cancel(task)
            return {}
        if verb == "tasks/update":
            # A run asks nothing of its caller yet; answers to questions never asked are ignored (Tasks extension).
            return {}
        shown = as_task(run)
        return shown | ({"result": result_of(run)} if shown["status"] == "completed" else {})


def definition(manifest: Manifest) -> dict[str, Any]:
    """The agent as a tool."""
    return {
        "name": manifest.name,
        "title": manifest.title or manifest.name,
        "description": manifest.description,
        "inputSchema": manifest.input,
        "outputSchema": manifest.output,
        "annotations": {
            "title": manifest.title or manifest.name,
            "readOnlyHint": manifest.read_only,
            "destructiveHint": not manifest.read_only,
            "openWorldHint": False,
        },
    }


def result_of(run: Run) -> dict[str, Any]:
    """A finished run as a tool result. Raises `HubError` where it was cancelled."""
    meta = meta_of(run)
    if run.state == "cancelled":
        raise HubError("The run was cancelled.", data={"run": run.id})
    if run.state != "done" or run.output is None:
        text = f"The agent could not finish: {run.error}"
        return {"content": [{"type": "text", "text": text}], "isError": True, "_meta": meta}
    return {
        "content": [{"type": "text", "text": in_words(run.output)}],
        "structuredContent": run.output,
        "isError": False,
        "_meta": meta,
    }


def meta_of(run: Run) -> dict[str, Any]:
    """Which run answered: the hub seals task ids, so a task's id does not tell."""
    return {"dev.entrepot/run": run.id, "dev.entrepot/trace": run.trace}


def in_words(output: dict[str, Any]) -> str:
    """The output for readers: its answer with the sources below, or all of it as JSON."""
    answer = output.get("answer")
    if not isinstance(answer, str):
        return orjson.dumps(output, option=orjson.OPT_INDENT_2).decode()
    lines = [answer]
    for number, citation in enumerate(map(mapping, listing(output.get("citations"))), 1):
        where = [str(citation[key]) for key in ("title", "section", "path", "lines") if citation.get(key)]
        lines.append(f"[{number}] {' · '.join(where)}")
    rest = {key: value for key, value in output.items() if key not in ("answer", "citations", "found")}
    if rest:
        lines.append(orjson.dumps(rest, option=orjson.OPT_INDENT_2).decode())
    return "\n".join(lines)


def as_task(run: Run) -> dict[str, Any]:
    """A run as the Tasks extension shows it."""
    shown: dict[str, Any] = {
        "taskId": run.id,
        "status": STATUS.get(run.state, "cancelled"),
        "createdAt": run.created.isoformat(),
        "lastUpdatedAt": (run.finished or run.started or run.created).isoformat(),
        "ttlMs": None,
        "pollIntervalMs": POLL_MILLISECONDS,
    }
    return shown | ({"statusMessage": run.error} if run.error else {})
