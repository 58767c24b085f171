"""Tables of identity: API keys, sign-in links and UI sessions. Only hashes of secrets are stored."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field

from hub.db.base import HubTable, Json, UtcDateTime
from hub.ids import new_id, now


class ApiKey(HubTable, table=True):
    """A key: shown once, kept as a SHA-256 digest (256 random bits need no slow hash)."""

    __tablename__ = "api_key"  # pyright: ignore[reportAssignmentType]

    id: str = Field(default_factory=lambda: new_id("key_"), primary_key=True)
    name: str = Field(index=True)
    prefix: str
    digest: str = Field(unique=True)
    scopes: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    teams: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    kind: str = "service"
    on_behalf_of: str = ""
    created: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    expires: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    revoked: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    last_used: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class SignInLink(HubTable, table=True):
    """A link that signs its holder in once."""

    __tablename__ = "sign_in_link"  # pyright: ignore[reportAssignmentType]

    digest: str = Field(primary_key=True)
    subject: str
    expires: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class UiSession(HubTable, table=True):
    """A browser that is signed in."""

    __tablename__ = "ui_session"  # pyright: ignore[reportAssignmentType]

    digest: str = Field(primary_key=True)
    subject: str
    created: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    expires: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
