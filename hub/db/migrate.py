"""Alembic driven from code: no `.ini`, no script to run beside the program.

Never loaded into a worker: `history.py` says whether there is anything to do. Each product keeps its own history and
its own version table, so that one can be upgraded without the other.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.exc import SQLAlchemyError

from hub.db.engine import Database
from hub.db.history import HUB, History, pending
from hub.errors import Unavailable

__all__ = ["HUB", "History", "pending", "upgrade"]


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


def _config(history: History) -> Config:
    config = Config()
    config.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    config.attributes["history"] = history
    return config
