"""Tables of the agents part: agents, runs and their steps. Written by the agents worker only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, MetaData
from sqlmodel import Field, SQLModel

from hub.db.base import CONVENTION, Json, UtcDateTime
from hub.ids import new_id, now


class AgentsTable(SQLModel):
    """Base of this part's tables; a history of its own describes them."""

    metadata = MetaData(naming_convention=CONVENTION)


class Agent(AgentsTable, table=True):
    """An agent: its manifest as given."""

    __tablename__ = "agent"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    manifest: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    enabled: bool = True
    bundled: bool = False
    changed: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class Run(AgentsTable, table=True):
    """One execution of an agent, with the manifest that it started with: later changes do not reach it."""

    __tablename__ = "run"  # pyright: ignore[reportAssignmentType]

    id: str = Field(default_factory=lambda: new_id("run_"), primary_key=True)
    agent: str = Field(index=True)
    manifest: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    state: str = Field(default="queued", index=True)
    subject: str = ""
    on_behalf_of: str = ""
    scopes: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    """What the run may do: the manifest's tools, narrowed to the caller's own scopes."""
    depth: int = 0
    parent: str = ""
    key: str = ""
    """Id of the run key in force at the hub, to revoke it even after a crash; never the key."""
    trace: str = ""
    is_task: bool = False
    cancel_asked: bool = False
    attempts: int = 0
    created: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False, index=True))
    started: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    finished: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    input: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    output: dict[str, Any] | None = Field(default=None, sa_column=Column(Json))
    error: str = ""
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Step(AgentsTable, table=True):
    """One request of a run to a model or a tool: written before it is sent, completed with its answer."""

    __tablename__ = "step"  # pyright: ignore[reportAssignmentType]

    run: str = Field(primary_key=True, foreign_key="run.id")
    number: int = Field(primary_key=True)
    kind: str
    name: str
    digest: str
    started: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    milliseconds: float = 0.0
    outcome: str = ""
    """Empty while it is under way: after a crash that means that it may have had its effect."""
    request: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    response: dict[str, Any] | None = Field(default=None, sa_column=Column(Json))
