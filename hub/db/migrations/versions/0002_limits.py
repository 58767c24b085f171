"""Limits, teams of keys, and versions of servers that are being tried out."""

# pyright: basic
from __future__ import annotations

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0002"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables."""

    op.create_table(
        "call_limit",
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("declared", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_call_limit")),
    )
    # Columns are added in place: a table made anew would take what refers to it along.
    op.add_column("api_key", sa.Column("teams", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("server", sa.Column("rollout", sa.JSON(), nullable=False, server_default="{}"))
    text = sqlmodel.sql.sqltypes.AutoString()
    op.add_column("server", sa.Column("canary_of", text, nullable=False, server_default=""))


def downgrade() -> None:
    """Undo the change."""

    op.drop_column("server", "canary_of")
    op.drop_column("server", "rollout")
    op.drop_column("api_key", "teams")
    op.drop_table("call_limit")
