"""Tables of the model registry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column
from sqlmodel import Field

from hub.db.base import HubTable, Json, UtcDateTime
from hub.ids import now


class ModelRow(HubTable, table=True):
    """A served model name, and the one endpoint behind it (several come with the model platform)."""

    __tablename__ = "model"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    kind: str = "chat"
    """chat | embedding"""
    description: str = ""
    url: str
    """OpenAI-compatible base URL, up to and without `/chat/completions`."""
    socket: str = ""
    remote_name: str = ""
    """The model's name at the endpoint, where it differs."""
    api_key: str = ""
    """Sealed with the installation's key; never shown."""
    native_tools: bool = True
    """Whether the endpoint itself makes `tool_calls`; else the hub does, through constrained output."""
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    """Context length, licence, origin, digest of the weights."""
    parameters: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    """Defaults and caps for requests; see `hub.inference.spec.Parameters`."""
    internal: bool = False
    enabled: bool = True
    created: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
