"""The migration history of the agents part, beside the hub's own."""

from __future__ import annotations

from pathlib import Path

from agents.models import AgentsTable
from hub.db.history import History

HISTORY = History("agents", Path(__file__).parent / "migrations", "agents_version", AgentsTable.metadata)
