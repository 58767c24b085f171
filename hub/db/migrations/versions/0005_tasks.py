"""The hub's own tasks."""

# pyright: basic
from __future__ import annotations

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

from hub.db.base import UtcDateTime

revision = "0005"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables."""

    text = sqlmodel.sql.sqltypes.AutoString()
    op.create_table(
        "task",
        sa.Column("id", text, nullable=False),
        sa.Column("subject", text, nullable=False),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column("server", text, nullable=False),
        sa.Column("tool", text, nullable=False),
        sa.Column("status", text, nullable=False),
        sa.Column("message", text, nullable=False),
        sa.Column("asked", sa.LargeBinary(), nullable=True),
        sa.Column("ended", sa.LargeBinary(), nullable=True),
        sa.Column("ttl_seconds", sa.Integer(), nullable=False),
        sa.Column("created", UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated", UtcDateTime(timezone=True), nullable=False),
        sa.Column("seen", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    op.create_index(op.f("ix_task_seen"), "task", ["seen"])


def downgrade() -> None:
    """Undo the change."""

    op.drop_index(op.f("ix_task_seen"), table_name="task")
    op.drop_table("task")
