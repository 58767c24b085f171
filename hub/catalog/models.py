"""Tables of the catalog: servers as declared, what they offer, collections, and the names once exposed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field

from hub.db.base import HubTable, Json, UtcDateTime
from hub.ids import now


class ServerRow(HubTable, table=True):
    """One registered server: how it is declared, and what the last discovery found."""

    __tablename__ = "server"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    title: str = ""
    description: str = ""
    declared: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    """The declaration as in `catalog.manifest.ServerSpec`."""
    enabled: bool = True
    internal: bool = False
    eras: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    """Per era: capabilities, info, instructions."""
    rollout: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    """Where its present version runs, and how the last roll-out of another ended."""
    canary_of: str = ""
    """For a version that is being tried out: the server that it is to become."""
    state: str = "new"
    """new | ready | degraded | down"""
    reason: str = ""
    created: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    changed: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    discovered: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


def place_of(row: ServerRow) -> str:
    """What its child is called and where its files are: after a roll-out not the server's own name."""
    return str(row.rollout.get("place") or row.name)


class DefinitionRow(HubTable, table=True):
    """A tool, prompt, resource or template in the bytes that its server gave, pinned by digest."""

    __tablename__ = "definition"  # pyright: ignore[reportAssignmentType]

    server: str = Field(primary_key=True, foreign_key="server.name", ondelete="CASCADE")
    era: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    position: int = 0
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    digest: str
    first_seen: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    changed: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class AliasRow(HubTable, table=True):
    """A name that was once exposed, and whom it belongs to for good (permanent aliases)."""

    __tablename__ = "alias"  # pyright: ignore[reportAssignmentType]

    kind: str = Field(primary_key=True)
    exposed: str = Field(primary_key=True)
    server: str
    name: str


class CollectionRow(HubTable, table=True):
    """A curated set: patterns of `server` or `server/name`."""

    __tablename__ = "collection"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    title: str = ""
    description: str = ""
    members: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    mode: str = "all"
    """all | search | code"""
    pinned: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    client: str = ""
    """The profile of its clients, or empty."""


class ToolVectorRow(HubTable, table=True):
    """What an embedding engine made of a tool's definition: 16-bit floats, as long as the definition's digest holds."""

    __tablename__ = "tool_vector"  # pyright: ignore[reportAssignmentType]

    engine: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class LimitRow(HubTable, table=True):
    """A limit as declared (`catalog.limits.LimitSpec`)."""

    __tablename__ = "call_limit"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    declared: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))


class SettingRow(HubTable, table=True):
    """A value of the installation itself: catalog revision, sealing key."""

    __tablename__ = "setting"  # pyright: ignore[reportAssignmentType]

    key: str = Field(primary_key=True)
    value: str
