"""Which client a collection is for."""

# pyright: basic
from __future__ import annotations

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables."""

    text = sqlmodel.sql.sqltypes.AutoString()
    op.add_column("collection", sa.Column("client", text, nullable=False, server_default=""))


def downgrade() -> None:
    """Undo the change."""

    op.drop_column("collection", "client")
