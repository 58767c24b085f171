"""The products installed beside the hub, found by their entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from hub.app import Part


def load_parts() -> list[Part]:
    """All parts, by name."""
    return [cast("Part", point.load()) for point in sorted(entry_points(group="hub.parts"), key=lambda one: one.name)]
