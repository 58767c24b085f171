"""JSON of others as the type that is expected: anything else counts as empty."""

from __future__ import annotations

from typing import Any, cast


def mapping(value: object) -> dict[str, Any]:
    """An object; empty where it is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def listing(value: object) -> list[Any]:
    """A list; empty where it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else []
