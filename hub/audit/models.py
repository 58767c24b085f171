"""The audit index: a searchable copy of the spool; the spool's segments are the truth."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Index
from sqlmodel import Field

from hub.db.base import HubTable, UtcDateTime


class AuditRow(HubTable, table=True):
    """One record of a segment. `segment` and `number` find it in the spool."""

    __tablename__ = "audit"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("ix_audit_at", "at"), Index("ix_audit_subject_at", "subject", "at"))

    segment: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    event: str
    subject: str
    on_behalf_of: str = ""
    server: str = ""
    target: str = ""
    outcome: str
    milliseconds: float = 0.0
    trace: str = ""
    detail: str = ""
