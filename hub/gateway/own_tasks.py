"""Tasks of the hub's own: a tool's call that takes long becomes one, whatever its server knows of tasks.

The call goes on here, owned by this worker, as the ordinary call that it was; what its server asks meanwhile becomes
the task's questions. Only for clients that declare the extension with the request; all that a server asks before the
call has become a task is asked as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from msgspec import Raw
from sqlalchemy.exc import SQLAlchemyError

from hub.catalog.snapshot import Snapshot, Target
from hub.errors import HubError
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.own import OWN
from hub.gateway.parks import Elsewhere
from hub.gateway.seals import Seals
from hub.gateway.task_records import BEAT_SECONDS, OPEN, TaskRecords, TaskRow
from hub.gateway.wire import refusal
from hub.ids import new_id, now
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments, mapping
from hub.upstream.modern_http import META

log = logging.getLogger(__name__)

TASKS = META + "tasks"
"""The extension's name."""

POLL_MILLISECONDS = 1000
"""How often a client that does not listen should ask."""

MOST_TASKS = 1000
"""Tasks of one worker under way; beyond it calls stay calls, and their clients wait."""

MOST_OF_ONE = 100
"""Of one principal."""

LARGEST_RESULT = 16 * 2**20
"""Bytes of a result that is kept."""

END_PAUSES = (0.5, 2.0, 8.0, 30.0)
"""Seconds between attempts to store the end of a task; its worker answers for it meanwhile."""

SWEEP_BEATS = 60
"""Beats between looks for tasks that are too old."""

Make = Callable[[Call, Emit], Awaitable[Outcome]]


@dataclass(slots=True)
class Task:
    """A task under way: its row, and what it waits for."""

    row: TaskRow
    call: Call
    work: asyncio.Task[Outcome] | None = None
    owner: asyncio.Task[None] | None = None
    asked: dict[str, bytes] = field(default_factory=dict[str, bytes])
    answers: dict[str, Raw] = field(default_factory=dict[str, Raw])
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    rounds: int = 0


class OwnTasks:
    """The tasks of one worker, and the records of all."""

    def __init__(self, records: TaskRecords, seals: Seals, worker: int, after_seconds: float, ttl_seconds: int) -> None:
        self._records = records
        self._seals = seals
        self._worker = worker
        self._after_seconds = after_seconds
        self._ttl_seconds = ttl_seconds
        self._tasks: dict[str, Task] = {}

    async def call(self, call: Call, target: Target | None, make: Make, emit: Emit) -> Outcome:
        """A call's answer, or the task that it has become."""
        if not declared(call.meta) or _knows_tasks(call.snapshot, target) or not self._takes(call):
            return await make(call, emit)
        told = True

        async def while_waiting(message: bytes) -> None:
            # A task has neither progress nor log.
            if told:
                await emit(message)

        work = asyncio.ensure_future(make(call, while_waiting))
        try:
            await asyncio.wait({work}, timeout=self._after_seconds)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise
        if work.done():
            return work.result()
        told = False
        return await self._begun(call, target, make, work)

    async def _begun(self, call: Call, target: Target | None, make: Make, work: asyncio.Future[Outcome]) -> Outcome:
        row = TaskRow(
            id=new_id("task_"),
            subject=call.principal.acts_for,
            worker=self._worker,
            server=target.server if target else OWN,
            tool=target.name if target else call.name,
            status="working",
            ttl_seconds=self._ttl_seconds,
        )
        try:
            # Durable before the client hears of it.
            await self._records.put(row)
        except asyncio.CancelledError:
            work.cancel()
            raise
        except SQLAlchemyError as error:
            log.warning("a call stays a call, for its task could not be stored: %s", error)
            return await work
        task = self._tasks[row.id] = Task(row, call)
        task.owner = asyncio.create_task(self._run(task, make, work))
        told = {"resultType": "task"} | _state(task.row, self._sealed(call, row.id))
        return Outcome(200, jsonrpc.result(call.identifier, orjson.dumps(told)), "task")

    async def _run(self, task: Task, make: Make, work: asyncio.Future[Outcome]) -> None:
        """The life of a task. Its end is in its record, whatever it is."""
        row, call = task.row, task.call
        try:
            while True:
                try:
                    outcome = await work
                    message = jsonrpc.read(outcome.body)
                except HubError as error:
                    message = jsonrpc.read(refusal(call.identifier, error))
                if "error" in message.members:
                    self._end(task, "failed", {"error": message.members["error"]})
                    return
                result = jsonrpc.fragments(message.members["result"])
                if jsonrpc.same(result.get("resultType"), b'"task"'):
                    self._end(task, "failed", {}, "its server made a task of its own, which nobody follows")
                    return
                if not jsonrpc.same(result.get("resultType"), b'"input_required"'):
                    self._end(task, "completed", {"result": message.members["result"]})
                    return
                work = asyncio.ensure_future(make(await self._asked(task, result), _unheard))
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if row.status in OPEN:
                self._end(task, "cancelled", {}, "cancelled")
        except Exception:
            log.exception("task %s", row.id)
            error = {"code": -32603, "message": "The hub failed", "data": {"code": "internal", "owner": "hub"}}
            self._end(task, "failed", {"error": Raw(orjson.dumps(error))})
        finally:
            await self._stored(row)
            self._tasks.pop(row.id, None)
            task.changed.set()

    async def _stored(self, row: TaskRow) -> None:
        """Keep how a task ended; a database that is locked for a while is waited for."""
        for pause in END_PAUSES:
            try:
                await self._records.put(row)
                return
            except SQLAlchemyError as error:
                log.warning("the end of task %s could not be stored: %s", row.id, error)
            await asyncio.sleep(pause)

    async def _asked(self, task: Task, result: Fragments) -> Call:
        """Wait for the answers to a server's questions: the call as it is to be made with them."""
        task.rounds += 1
        asked = jsonrpc.fragments(result["inputRequests"]) if "inputRequests" in result else {}
        # Keys are unique for a task's life; a server's are for one round.
        task.asked = {f"{task.rounds}.{key}": bytes(raw) for key, raw in asked.items()}
        task.answers, task.answered = {}, asyncio.Event()
        if task.asked:
            await self._move(task, "input_required", jsonrpc.write(task.asked))
            await task.answered.wait()
            await self._move(task, "working", None)
        answers = {key.partition(".")[2]: raw for key, raw in task.answers.items()}
        task.asked = {}
        params = dict(task.call.params) | {"inputResponses": Raw(jsonrpc.write(answers))}
        params.pop("requestState", None)
        if "requestState" in result:
            params["requestState"] = result["requestState"]
        return replace(task.call, params=params, identifier=orjson.dumps(f"{task.row.id}-{task.rounds}"))

    async def _move(self, task: Task, status: str, asked: bytes | None) -> None:
        task.row.status, task.row.asked, task.row.updated = status, asked, now()
        await self._records.put(task.row)
        self._tell(task)

    def _end(self, task: Task, status: str, ended: Mapping[str, Raw], message: str = "") -> None:
        row = task.row
        body = jsonrpc.write(dict(ended))
        if len(body) > LARGEST_RESULT:
            status, message = "failed", "its result is too large to be kept"
            body = b'{"error":{"code":-32603,"message":"The result is too large to be kept for a task"}}'
        row.status, row.message, row.asked, row.ended, row.updated = status, message, None, body, now()

    def _tell(self, task: Task) -> None:
        task.changed.set()
        task.changed = asyncio.Event()

    async def find(self, call: Call, identifier: str, *, reading: bool) -> Task | None:
        """A task of this principal's; to do something to an open one, it has to be here.

        Raises `Elsewhere` where it is on another worker.
        """
        task = self._tasks.get(identifier)
        if task is None:
            row = await self._records.get(identifier)
            if row is None:
                return None
            task = Task(row, call)
        if task.row.subject != call.principal.acts_for:
            return None
        if not reading and task.row.status in OPEN and task.row.worker != self._worker:
            raise Elsewhere(task.row.worker)
        return task

    def update(self, task: Task, call: Call) -> None:
        """Take answers to a task's questions; those to nothing that was asked are ignored."""
        given = jsonrpc.fragments(call.params["inputResponses"]) if "inputResponses" in call.params else {}
        task.answers |= {key: raw for key, raw in given.items() if key in task.asked}
        if task.asked and task.asked.keys() <= task.answers.keys():
            task.answered.set()

    async def cancel(self, task: Task) -> None:
        """Stop a task, also at its server. One that has ended stays as it is."""
        if task.owner is not None:
            task.owner.cancel()
            await asyncio.wait({task.owner}, timeout=5)

    async def _row(self, identifier: str) -> TaskRow | None:
        task = self._tasks.get(identifier)
        return task.row if task is not None else await self._records.get(identifier)

    async def changed(self, identifier: str, since: object) -> TaskRow | None:
        """The task once it is another than `since` (status and time); another worker's is looked at now and then."""
        while True:
            task = self._tasks.get(identifier)
            row = await self._row(identifier)
            if row is None or (row.status, row.updated) != since:
                return row
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_MILLISECONDS / 1000):
                    await (task.changed.wait() if task is not None else asyncio.sleep(60))

    def _sealed(self, call: Call, identifier: str) -> str:
        return str(jsonrpc.value(self._seals.wrap("task", call.principal, OWN, orjson.dumps(identifier))))

    def _takes(self, call: Call) -> bool:
        if len(self._tasks) >= MOST_TASKS:
            return False
        return sum(task.row.subject == call.principal.acts_for for task in self._tasks.values()) < MOST_OF_ONE

    async def run(self) -> None:
        """Give signs of life, and forget what is too old. The first thing: what this worker left when it was killed."""
        lost = await self._records.take_over(self._worker)
        if lost:
            log.warning("%d tasks were lost with this worker's predecessor", lost)
        beat = 0
        while True:
            if self._tasks:
                await self._records.beat(list(self._tasks))
            if beat % SWEEP_BEATS == 0 and self._worker == 0:
                await self._records.sweep()
            beat += 1
            await asyncio.sleep(BEAT_SECONDS)

    async def close(self) -> None:
        """End what is under way: it will be told as cancelled, which it is."""
        owners = [task.owner for task in self._tasks.values() if task.owner is not None]
        for owner in owners:
            owner.cancel()
        if owners:
            await asyncio.wait(owners, timeout=5)


def declared(meta: Mapping[str, Any]) -> bool:
    """Whether a request says that its client knows tasks."""
    extensions = mapping(mapping(meta.get(META + "clientCapabilities")).get("extensions"))
    return isinstance(extensions.get(TASKS), dict)


def detailed(row: TaskRow, sealed: str) -> bytes:
    """A task with its questions, its result or its error, as its status has it."""
    told = orjson.dumps({"resultType": "complete"} | _state(row, sealed))
    more = row.ended if row.ended not in (None, b"{}") else None
    if row.status == "input_required" and row.asked is not None:
        more = b'{"inputRequests":' + row.asked + b"}"
    if more is None and row.status == "failed":
        data = {"code": "outcome-unknown", "owner": "hub", "hint": "Check what it did before you call again."}
        more = orjson.dumps({"error": {"code": -32603, "message": row.message or "The task failed", "data": data}})
    return told if more is None else told[:-1] + b"," + more[1:]


def _state(row: TaskRow, sealed: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "taskId": sealed,
        "status": row.status,
        "createdAt": row.created.isoformat().replace("+00:00", "Z"),
        "lastUpdatedAt": row.updated.isoformat().replace("+00:00", "Z"),
        "ttlMs": row.ttl_seconds * 1000,
        "pollIntervalMs": POLL_MILLISECONDS,
    }
    return told | ({"statusMessage": row.message} if row.message else {})


def _knows_tasks(snapshot: Snapshot, target: Target | None) -> bool:
    """Whether the server makes tasks itself, which then is its business."""
    if target is None:
        return False
    server = snapshot.servers[target.server]
    return "modern" in server.eras and TASKS in mapping(server.facts("modern").get("extensions"))


async def _unheard(_message: bytes) -> None:
    """A task has neither progress nor log."""
