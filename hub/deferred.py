"""A module that is loaded when it is first used: for what is large and that most workers never need."""

from __future__ import annotations

import importlib
from typing import Any


class Deferred:
    """Stands for a module; the first look at anything in it loads it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """What the module has under that name."""
        found = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, found)
        return found
