"""Loads httpx without the command line that it brings: 4.5 MB of rich and pygments that each worker would carry.

To be imported before anything that imports httpx. It takes the way that httpx has for those who do not have them.
"""

from __future__ import annotations

import importlib
import sys

LEFT_OUT = ("rich", "pygments")

_loaded = [name for name in LEFT_OUT if name not in sys.modules]
for _name in _loaded:
    # What stands as None in this table cannot be imported.
    sys.modules[_name] = None  # pyright: ignore[reportArgumentType]
importlib.import_module("httpx")
for _name in _loaded:
    del sys.modules[_name]
