"""A definition's JSON text with single top-level members replaced or left out, the rest untouched to the letter.

Not parsed and written again: that would lose large integers, unknown number forms and the order of members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_DECODER = json.JSONDecoder(strict=False)
_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Member:
    """One top-level member: its key, its text from key to value, and where the value begins in that text."""

    key: str
    text: str
    value_at: int


def members(body: bytes) -> list[Member]:
    """The top-level members of a JSON object, in order. Raises `ValueError` when it is none."""
    text = body.decode()
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("not a JSON object")
    found: list[Member] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        start = at
        key, at = _value(text, at)
        at = _skip(text, at)
        if not isinstance(key, str) or text[at : at + 1] != ":":
            raise ValueError("not a JSON object")
        value_at = at = _skip(text, at + 1)
        _, at = _value(text, at)
        found.append(Member(key, text[start:at], value_at - start))
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "}":
            raise ValueError("not a JSON object")
    return found


def rewritten(body: bytes, replace: Mapping[str, Any], drop: frozenset[str] = frozenset()) -> bytes:
    """The object with the members of `replace` given new values and those of `drop` left out, on one line."""
    if not replace and not drop:
        return on_one_line(body)
    kept: list[bytes] = []
    for member in members(body):
        if member.key in drop:
            continue
        if member.key in replace:
            kept.append(member.text[: member.value_at].encode() + orjson.dumps(replace[member.key]))
        else:
            kept.append(member.text.encode())
    return on_one_line(b"{" + b",".join(kept) + b"}")


def on_one_line(body: bytes) -> bytes:
    """The same JSON without line breaks, which an event stream cannot carry; in JSON they are only white space."""
    return body.strip().translate(_BREAKS) if b"\n" in body or b"\r" in body else body.strip()


_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
