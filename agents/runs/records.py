"""Run and step records: the only room that touches these tables. Synchronous; callers run it in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from agents.models import Agent, Run, Step
from hub.db.engine import Database
from hub.errors import NotFound
from hub.ids import now

FINISHED = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Usage:
    """What one model request cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Records:
    """Runs and steps in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: Run) -> None:
        """Store a new run."""
        with self._database.session() as session:
            session.add(run)

    def run(self, identifier: str) -> Run:
        """A run by its id. Raises `NotFound`."""
        with self._database.session() as session:
            run = session.get(Run, identifier)
        if run is None:
            raise NotFound("There is no such run.")
        return run

    def begin(self, identifier: str) -> Run:
        """Mark a run as running, one attempt more; a finished one is given back as it is. Raises `NotFound`."""
        with self._database.session() as session:
            run = session.get(Run, identifier)
            if run is None:
                raise NotFound("There is no such run.")
            if run.state not in FINISHED:
                run.state = "running"
                run.started = run.started or now()
                run.attempts += 1
            return run

    def key_issued(self, identifier: str, key: str) -> None:
        """Remember the id of the run's key, so that it can be revoked after a crash too."""
        self._change(identifier, key=key)

    def cancel_asked(self, identifier: str) -> Run:
        """Remember that the run shall stop; a finished one stays as it is. Raises `NotFound`."""
        return self._change(identifier, cancel_asked=True)

    def finish(self, identifier: str, state: str, output: dict[str, Any] | None, error: str) -> Run:
        """Close a run once; a run that is finished already keeps its outcome. Raises `NotFound`."""
        return self._change(identifier, state=state, output=output, error=error, finished=now())

    def unfinished(self) -> list[str]:
        """Ids of runs that are queued or running, oldest first."""
        with self._database.session() as session:
            query = select(Run.id).where(col(Run.state).in_(("queued", "running"))).order_by(col(Run.created))
            return list(session.exec(query))

    def latest(self, agent: str = "", limit: int = 50) -> list[Run]:
        """The newest runs first."""
        query = select(Run).order_by(col(Run.created).desc(), col(Run.id)).limit(limit)
        if agent:
            query = query.where(Run.agent == agent)
        with self._database.session() as session:
            return list(session.exec(query))

    def step(self, run: str, number: int) -> Step | None:
        """One step, or None when it has never begun."""
        with self._database.session() as session:
            return session.get(Step, (run, number))

    def steps(self, run: str) -> list[Step]:
        """All steps of a run in order."""
        with self._database.session() as session:
            return list(session.exec(select(Step).where(Step.run == run).order_by(col(Step.number))))

    def begin_step(self, step: Step) -> None:
        """Write a step down before it is sent."""
        with self._database.session() as session:
            session.add(step)

    def complete_step(
        self, run: str, number: int, outcome: str, milliseconds: float, response: dict[str, Any], usage: Usage
    ) -> None:
        """Write a step's answer down, and what it used on the run, in one transaction."""
        with self._database.session() as session:
            step = session.get(Step, (run, number))
            owner = session.get(Run, run)
            if step is None or owner is None:
                raise NotFound("There is no such step.")
            step.outcome, step.milliseconds, step.response = outcome, milliseconds, response
            owner.steps = max(owner.steps, number)
            owner.input_tokens += usage.input_tokens
            owner.output_tokens += usage.output_tokens
            owner.cost += usage.cost

    def last_runs(self, agents: Sequence[str]) -> dict[str, datetime]:
        """When each agent was last started, for those that ever were."""
        found: dict[str, datetime] = {}
        with self._database.session() as session:
            for name in agents:
                newest = select(Run.created).where(Run.agent == name).order_by(col(Run.created).desc()).limit(1)
                if moment := session.exec(newest).first():
                    found[name] = moment
        return found

    def agents(self) -> list[Agent]:
        """All agents by name."""
        with self._database.session() as session:
            return list(session.exec(select(Agent).order_by(col(Agent.name))))

    def agent(self, name: str) -> Agent:
        """An agent by name. Raises `NotFound`."""
        with self._database.session() as session:
            agent = session.get(Agent, name)
        if agent is None:
            raise NotFound("There is no such agent.")
        return agent

    def put_agent(self, name: str, manifest: Mapping[str, Any], *, bundled: bool = False, enabled: bool = True) -> bool:
        """Store an agent; whether that changed anything."""
        with self._database.session() as session:
            kept = session.get(Agent, name)
            if kept is None:
                session.add(Agent(name=name, manifest=dict(manifest), bundled=bundled, enabled=enabled))
                return True
            if kept.manifest == manifest and kept.enabled == enabled and kept.bundled == bundled:
                return False
            kept.manifest, kept.bundled, kept.enabled, kept.changed = dict(manifest), bundled, enabled, now()
            return True

    def remove_agent(self, name: str) -> None:
        """Forget an agent; its runs stay. Raises `NotFound`."""
        with self._database.session() as session:
            agent = session.get(Agent, name)
            if agent is None:
                raise NotFound("There is no such agent.")
            session.delete(agent)

    def _change(self, identifier: str, **fields: Any) -> Run:
        with self._database.session() as session:
            run = session.get(Run, identifier)
            if run is None:
                raise NotFound("There is no such run.")
            if run.state not in FINISHED:
                for name, value in fields.items():
                    setattr(run, name, value)
            return run


def shown_run(run: Run) -> dict[str, Any]:
    """A run in the admin API's form."""
    return {
        "id": run.id,
        "agent": run.agent,
        "state": run.state,
        "subject": run.subject,
        "on_behalf_of": run.on_behalf_of,
        "trace": run.trace,
        "created": _moment(run.created),
        "started": _moment(run.started),
        "finished": _moment(run.finished),
        "input": run.input,
        "output": run.output,
        "error": run.error,
        "usage": {"steps": run.steps, "input_tokens": run.input_tokens, "output_tokens": run.output_tokens},
    }


def shown_step(step: Step) -> dict[str, Any]:
    """A step in the admin API's form."""
    return {
        "number": step.number,
        "kind": step.kind,
        "name": step.name,
        "started": _moment(step.started),
        "milliseconds": step.milliseconds,
        "outcome": step.outcome,
        "request": step.request,
        "response": step.response,
    }


def shown_agent(agent: Agent, last_run: datetime | None) -> dict[str, Any]:
    """An agent in the admin API's form; its manifest beside the fields that lists show."""
    manifest = agent.manifest
    return {
        "name": agent.name,
        "title": manifest.get("title") or agent.name,
        "description": manifest.get("description", ""),
        "model": manifest.get("model", "auto"),
        "tools": manifest.get("tools", []),
        "limits": manifest.get("limits", {}),
        "sandbox": manifest.get("sandbox", "agent"),
        "enabled": agent.enabled,
        "bundled": agent.bundled,
        "last_run": _moment(last_run),
        "manifest": manifest,
    }


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
