"""The durable side of a run: a DBOS workflow per run, a queue before it, and resumption after a crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

from agents.models import Run
from agents.runs.execution import Ending, Execution, Surroundings
from agents.runs.records import FINISHED
from hub.errors import HubError
from hub.settings import Settings

log = logging.getLogger("agents.runs")

QUEUE = "agent-runs"
POLL_SECONDS = 0.1
"""How often the queue is looked at: what a run waits at most before it starts."""
AT_ONCE = 8
"""Runs that execute at the same time on one machine; the rest wait in the queue."""
SHAPE = "1"
"""Of the workflow, not of the program: a run that an older program began is resumed as long as this is the same."""


class RunWorkflow:
    """What the workflow does, with what it needs around it."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def execute(self, identifier: str) -> str:
        """Execute a run, or go on with it; its final state."""
        records, live = self._around.records, self._around.live
        run = await asyncio.to_thread(records.begin, identifier)
        if run.state not in FINISHED:
            ending = await self._ending(run)
            run = await asyncio.to_thread(records.finish, identifier, ending.state, ending.output, ending.error)
        live.say(identifier, None)
        return run.state

    async def _ending(self, run: Run) -> Ending:
        try:
            return await Execution(self._around, run, _durably).execute()
        except HubError as error:
            return Ending("failed", error=error.message)
        except Exception:
            # The boundary of a run: whatever breaks in it must end it visibly, not hang whoever waits for it.
            log.exception("run %s broke", run.id)
            return Ending("failed", error="The run broke inside the platform; the log of the agents worker says why.")


async def _durably(number: int, perform: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    async def step() -> dict[str, Any]:
        return await perform()

    return await DBOS.run_step_async({"name": "step"}, step)


class Engine:
    """DBOS for the life of the worker."""

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        DBOS(
            config=DBOSConfig(  # pyright: ignore[reportCallIssue] - its TypedDict names fewer keys than it takes
                name="entrepot-agents",
                system_database_url=system_database(settings),
                application_version=SHAPE,
                executor_id="agents",
                run_admin_server=False,
                log_level="WARNING",
            )
        )
        workflow = RunWorkflow(around)

        async def execute(identifier: str) -> str:
            return await workflow.execute(identifier)

        # Registered here, not by decorating at import: the workflow needs its surroundings, and modules keep no state.
        self._execute = DBOS.workflow(name="agents.run")(execute)
        self._around = around

    def launch(self) -> None:
        """Start the engine; runs that a crash interrupted go on. Blocks for some seconds."""
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=POLL_SECONDS)

    async def enqueue(self, run: str) -> None:
        """Have a run executed; asking again for the same run changes nothing."""
        with SetWorkflowID(run):
            await DBOS.enqueue_workflow_async(QUEUE, self._execute, run)

    async def enqueue_forgotten(self) -> None:
        """Queue runs that were stored but never reached the engine before a crash."""
        for run in await asyncio.to_thread(self._around.records.unfinished):
            await self.enqueue(run)

    def close(self) -> None:
        """Stop the engine; what is under way goes on at the next start."""
        DBOS.destroy(destroy_registry=True)


def system_database(settings: Settings) -> str:
    """Where the engine keeps its books: the shared PostgreSQL, or a file of its own."""
    if settings.database.startswith("sqlite"):
        folder: Path = settings.home
        return f"sqlite:///{folder / 'dbos.sqlite'}"
    return settings.database
