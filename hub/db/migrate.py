"""Alembic driven from code: no `.ini`, no script to run beside the program.

Each product keeps its own history and its own version table, so that one can be upgraded without the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import MetaData
from sqlalchemy.exc import SQLAlchemyError

from hub.db.base import HubTable
from hub.db.engine import Database
from hub.errors import Unavailable


@dataclass(frozen=True, slots=True)
class History:
    """One line of migrations: its folder, its version table and the tables it describes."""

    name: str
    folder: Path
    version_table: str
    metadata: MetaData


HUB = History("hub", Path(__file__).parent / "migrations", "hub_version", HubTable.metadata)


def upgrade(database: Database, history: History) -> None:
    """Bring the tables to this program's version.

    Raises `Unavailable` when a step fails or the database is newer than the program: the process must not start.
    """
    try:
        with database.engine.begin() as connection:
            config = _config(history)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (SQLAlchemyError, CommandError) as error:
        raise Unavailable(
            f"The {history.name} tables could not be brought to this version: {error}",
            hint="Restore the database from a backup, or install the version that wrote it.",
        ) from error


def pending(database: Database, history: History) -> bool:
    """Whether the tables are not at this program's version."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": history.version_table})
        return context.get_current_revision() != ScriptDirectory.from_config(_config(history)).get_current_head()


def _config(history: History) -> Config:
    config = Config()
    config.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    config.attributes["history"] = history
    return config
