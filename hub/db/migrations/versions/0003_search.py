"""How a collection shows its tools, and the vectors by which tools are found."""

# pyright: basic
from __future__ import annotations

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables."""

    with op.batch_alter_table("collection", schema=None) as batch_op:
        batch_op.add_column(sa.Column("mode", sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default="all"))
        batch_op.add_column(sa.Column("pinned", sa.JSON(), nullable=False, server_default="[]"))

    op.create_table(
        "tool_vector",
        sa.Column("engine", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("engine", "digest", name=op.f("pk_tool_vector")),
    )


def downgrade() -> None:
    """Undo the change."""

    op.drop_table("tool_vector")
    with op.batch_alter_table("collection", schema=None) as batch_op:
        batch_op.drop_column("pinned")
        batch_op.drop_column("mode")
