"""The tables and their history: they agree, and nothing starts on tables that are not at this version."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

import agents.models
import hub.audit.models
import hub.catalog.models
import hub.gateway.task_records
import hub.identity.models
import hub.inference.models
from agents.db import HISTORY as AGENTS
from hub.app import Hub
from hub.db import migrate
from hub.db.engine import Database
from hub.db.migrate import HUB, History
from hub.errors import Unavailable
from hub.settings import Settings

TABLES = (
    agents.models,
    hub.audit.models,
    hub.catalog.models,
    hub.gateway.task_records,
    hub.identity.models,
    hub.inference.models,
)


@pytest.mark.parametrize("history", [HUB, AGENTS], ids=lambda history: history.name)
def test_the_migrations_make_exactly_the_tables_that_the_program_uses(history: History, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'made.db'}")
    migrate.upgrade(database, history)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": history.version_table})
        assert compare_metadata(context, history.metadata) == []


def test_both_products_keep_their_histories_in_one_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'both.db'}")
    for history in (HUB, AGENTS):
        assert migrate.pending(database, history)
        migrate.upgrade(database, history)
    assert not migrate.pending(database, HUB)
    assert not migrate.pending(database, AGENTS)


def test_a_step_that_fails_is_told_with_what_to_do(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'foreign.db'}")
    with database.session() as session:
        session.connection().execute(text("CREATE TABLE server (something TEXT)"))
    with pytest.raises(Unavailable) as refused:
        migrate.upgrade(database, HUB)
    assert "backup" in refused.value.hint


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'newer.db'}")
    migrate.upgrade(database, HUB)
    with database.session() as session:
        session.connection().execute(text("UPDATE hub_version SET version_num = 'from-the-future'"))
    with pytest.raises(Unavailable):
        migrate.upgrade(database, HUB)


@pytest.mark.anyio
async def test_a_worker_does_not_start_on_tables_of_another_version(tmp_path: Path) -> None:
    worker = Hub(Settings(home=tmp_path))
    with pytest.raises(Unavailable, match="not at this program's version"):
        async with worker.running():
            pytest.fail("it started")
