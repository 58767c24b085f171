"""All tables of an installation, the hub's and its parts', brought to this program's version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hub.audit import models as _audit
from hub.catalog import models as _catalog
from hub.db import migrate
from hub.db.engine import Database
from hub.identity import models as _identity
from hub.inference import models as _inference
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.app import Part

TABLES = (_audit, _catalog, _identity, _inference)
"""Imported so that the metadata is whole when migrations are compared with it."""


def prepare_database(settings: Settings, parts: Sequence[Part]) -> None:
    """Bring all tables to this version. Raises `Unavailable`: then nothing may start."""
    database = Database(settings.database)
    try:
        migrate.upgrade(database, migrate.HUB)
        for part in parts:
            if part.history is not None:
                migrate.upgrade(database, part.history)
    finally:
        database.close()
