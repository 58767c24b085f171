"""Values over the border: a tool's result as a program gets it, and a program's values as bounded JSON.

What comes out of a program may be shared, cyclic or of any size once written; every writer here stops at a limit.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import orjson
from pydantic_monty import MontyClassProxy

from hub.errors import TooLarge
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import mapping

DEEPEST = 100
"""Levels of a value that are written."""

LARGEST_INTEGER = 2**63 - 1
"""Beyond it peers lose digits; larger ones travel as text."""


class ToolFailed(RuntimeError):
    """What a program sees of a tool that failed, as a `RuntimeError` that it may catch."""


def received(result: jsonrpc.Fragments) -> Any:
    """A tool's result as a Python value: its structured content, else the text or JSON of its content.

    Raises `ToolFailed` for a result that says it is an error.
    """
    content: Any = jsonrpc.value(result["content"]) if "content" in result else []
    blocks = cast("list[object]", content) if isinstance(content, list) else []
    if jsonrpc.same(result.get("isError"), b"true"):
        raise ToolFailed(_texts(blocks)[:2000] or "the tool failed and gave no reason")
    if "structuredContent" in result and not jsonrpc.same(result["structuredContent"], b"null"):
        return jsonrpc.value(result["structuredContent"])
    if len(blocks) == 1 and mapping(blocks[0]).get("type") == "text":
        return _read(str(mapping(blocks[0]).get("text", "")))
    if blocks and all(mapping(block).get("type") == "text" for block in blocks):
        return [_read(str(mapping(block).get("text", ""))) for block in blocks]
    return blocks or None


def _texts(blocks: list[object]) -> str:
    return "\n".join(str(mapping(block).get("text", "")) for block in blocks if mapping(block).get("type") == "text")


def _read(text: str) -> Any:
    """A text that is a JSON object or array as what it says; any other as it is."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


def written(value: object, limit: int) -> bytes:
    """A program's value as JSON. Raises `TooLarge` past `limit` bytes."""
    out = Writer(limit)
    out.add(value, 0)
    if out.cut:
        raise TooLarge(f"A value is larger than {limit} bytes of JSON, or nested deeper than {DEEPEST} levels")
    return "".join(out.parts).encode("utf-8", "replace")


def shown(value: object, limit: int) -> tuple[str, bool]:
    """A program's result as a model reads it, and whether it was cut: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value[:limit], len(value) > limit
    out = Writer(limit)
    out.add(value, 0)
    return "".join(out.parts)[:limit], out.cut


class Writer:
    """JSON up to a number of characters, then nothing more."""

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.left = limit
        self.cut = False

    def add(self, value: object, depth: int) -> None:
        """Append one value."""
        if self.left <= 0 or depth > DEEPEST:
            self.cut = True
            return
        if isinstance(value, dict):
            self._object(cast("dict[object, object]", value), depth)
        elif isinstance(value, list | tuple | set | frozenset):
            self._array(cast("list[object]", value), depth)
        elif isinstance(value, MontyClassProxy):
            self._object(cast("dict[object, object]", value.attributes), depth)
        else:
            self._put(_scalar(value, self.left))

    def _array(self, values: list[object], depth: int) -> None:
        self._put("[")
        for number, one in enumerate(values):
            if self.left <= 0:
                self.cut = True
                return
            if number:
                self._put(",")
            self.add(one, depth + 1)
        self._put("]")

    def _object(self, values: Mapping[object, object], depth: int) -> None:
        self._put("{")
        for number, (key, one) in enumerate(values.items()):
            if self.left <= 0:
                self.cut = True
                return
            if number:
                self._put(",")
            self._put(_scalar(key if isinstance(key, str) else str(key), self.left))
            self._put(":")
            self.add(one, depth + 1)
        self._put("}")

    def _put(self, text: str) -> None:
        self.left -= len(text)
        if self.left < 0:
            self.cut = True
        self.parts.append(text)


def _scalar(value: object, left: int) -> str:
    """One value without members as JSON; a text far beyond what is left is not written out for nothing."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else ("true" if value else "false")
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST_INTEGER else _text(_large(value))
    if isinstance(value, float):
        # JSON knows no NaN and no infinity.
        return repr(value) if math.isfinite(value) else _text(str(value))
    if isinstance(value, str):
        return _text(value[: left + 1])
    if isinstance(value, bytes):
        return _text(value[: left + 1].decode("utf-8", "replace"))
    if isinstance(value, datetime.date | datetime.time):
        return _text(value.isoformat())
    if isinstance(value, Decimal | datetime.timedelta | Exception):
        return _text(str(value)[:1000])
    # Nothing else is asked to write itself: it could hold anything, any number of times.
    return _text(f"<{type(value).__name__}>")


def _large(value: int) -> str:
    # Python refuses to write out integers of more than 4300 digits, which is quadratic work.
    try:
        return str(value)
    except ValueError:
        return "an integer of more than 4300 digits"


def _text(text: str) -> str:
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
