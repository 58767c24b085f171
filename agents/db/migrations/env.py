"""What Alembic runs: the connection and the tables come from `hub.db.migrate`."""

from __future__ import annotations

from alembic import context

history = context.config.attributes["history"]
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=history.metadata,
    version_table=history.version_table,
    render_as_batch=True,
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
