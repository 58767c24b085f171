"""Which version the tables are at, and which this program wants: told without the migration engine.

Workers ask this at every start; only the process that brings tables forward (`migrate.py`) loads Alembic, which costs
11 MB that an idle worker would carry for good.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, MetaData, String, Table, inspect, select

from hub.db.base import HubTable
from hub.db.engine import Database
from hub.errors import Unavailable

_REVISION = re.compile(r"^(revision|down_revision)\b[^=\n]*=\s*(.+?)\s*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class History:
    """One line of migrations: its folder, its version table and the tables it describes."""

    name: str
    folder: Path
    version_table: str
    metadata: MetaData

    @property
    def head(self) -> str:
        """The revision of this program: the one that no other builds on. Raises `Unavailable` when the line forks."""
        revisions: set[str] = set()
        built_on: set[str] = set()
        for file in sorted((self.folder / "versions").glob("[0-9]*.py")):
            told = {key: value.strip("\"'") for key, value in _REVISION.findall(file.read_text())}
            revisions.add(told["revision"])
            built_on.add(told.get("down_revision", "None"))
        heads = revisions - built_on
        if len(heads) != 1:
            raise Unavailable(
                f"The migrations of the {self.name} tables have {len(heads)} ends", hint="Install the program anew."
            )
        return heads.pop()


HUB = History("hub", Path(__file__).parent / "migrations", "hub_version", HubTable.metadata)


def pending(database: Database, history: History) -> bool:
    """Whether the tables are not at this program's version."""
    table = Table(history.version_table, MetaData(), Column("version_num", String))
    with database.engine.connect() as connection:
        if not inspect(connection).has_table(history.version_table):
            return True
        return connection.execute(select(table.c.version_num)).scalar() != history.head
