"""The products installed beside the hub, found by their entry points."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hub.app import Part
    from hub.settings import Settings


class Process(Protocol):
    """A process that `entrepot up` keeps running for a part."""

    @property
    def name(self) -> str:
        """How logs call it."""
        ...

    @property
    def command(self) -> tuple[str, ...]:
        """What is started."""
        ...


def load_parts() -> list[Part]:
    """All parts, by name."""
    return [point.load() for point in sorted(entry_points(group="hub.parts"), key=lambda one: one.name)]


def load_processes(settings: Settings) -> list[Process]:
    """The processes of all parts; found apart from the parts, so that `up` need not load those."""
    found: list[Process] = []
    for point in sorted(entry_points(group="hub.processes"), key=lambda one: one.name):
        declared: Sequence[Process] = point.load()(settings)
        found += declared
    return found
