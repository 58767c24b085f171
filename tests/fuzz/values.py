"""JSON as trees that may be wrong on purpose: values to put into them, ways to bend them, and how they are written.

A tree is made of Python's own values, `Pairs` (an object whose keys may repeat) and `Verbatim` (bytes as they are).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast


@dataclass(frozen=True)
class Pairs:
    """An object as its pairs, so that a key may come twice."""

    pairs: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Verbatim:
    """Bytes that stand where a value should."""

    raw: bytes


ODD_WORDS = (
    "", " ", "\0", "a\0b", "\r\nx-injected: 1", "\u2028", "\u202e", "\ufeff", "é", "你好", "👩‍👩‍👧",
    "\x7f", "../../etc/passwd",
    "=?base64??=", "=?base64?w7g=?=", "=?base64?%%%?=", "{a}{b}{c}", "test://template/{id}/data", "${HOME}", "a" * 300,
    "entrepot://everything/test://static-text", "everything__echo", "__proto__", "constructor", "1.2", "NaN", "-0",
)  # fmt: skip

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30,
    0.1, 1e308, -0.0, [], {}, [[]], [None], {"": ""}, Verbatim(b"1e999"), Verbatim(b"-1e999"),
    Verbatim(b"NaN"), Verbatim(b"Infinity"), Verbatim(b"-"),
    Verbatim(b"9" * 5000), Verbatim(b"0." + b"1" * 3000), Verbatim(b"1E400"), Verbatim(b'"\\ud800"'),
    Verbatim(b'"\xff"'),
    Verbatim(b'"\\u0000"'), Verbatim(b'"\\x"'), Verbatim(b"01"), Verbatim(b"+1"), Verbatim(b"'a'"), Verbatim(b"/**/1"),
    Verbatim(b'"\xed\xa0\x80"'), Verbatim(b'"\t"'), Verbatim(b"\xef\xbb\xbf1"), Verbatim(b""), Verbatim(b"tru"),
)  # fmt: skip

DEPTHS = (20, 60, 130, 260, 520, 1030, 5_000, 100_000)


@cache
def naughty() -> tuple[str, ...]:
    """The big list of naughty strings where the evaluation data is, else a few of its kind."""
    file = Path(os.environ.get("ENTREPOT_TEST_DATA", "/nowhere")) / "naughty" / "blns.json"
    return tuple(json.loads(file.read_text())) if file.is_file() else ODD_WORDS


def word(rng: Random) -> str:
    """A string that somebody did not expect."""
    return rng.choice(rng.choice((ODD_WORDS, naughty())))


def deep(rng: Random) -> Verbatim:
    """Arrays or objects in each other."""
    depth = rng.choice(DEPTHS)
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")))
    return Verbatim(opening * depth + b"1" + closing * (depth if rng.random() < 0.9 else 0))


def value(rng: Random) -> Any:
    """Any value."""
    draw = rng.random()
    if draw < 0.4:
        return rng.choice(ODD_VALUES)
    return word(rng) if draw < 0.85 else deep(rng)


def bent(rng: Random, tree: Any) -> Any:
    """The tree with one change, at a place that is drawn."""
    places = _places(tree, ())
    return _changed(rng, tree, rng.choice(places))


def written(tree: Any) -> bytes:
    """The tree as JSON, as wrong as it is."""
    match tree:
        case Verbatim():
            return tree.raw
        case Pairs():
            return b"{" + b",".join(written(key) + b":" + written(one) for key, one in tree.pairs) + b"}"
        case dict():
            told = cast("dict[Any, Any]", tree)
            return b"{" + b",".join(written(str(key)) + b":" + written(one) for key, one in told.items()) + b"}"
        case list():
            return b"[" + b",".join(written(one) for one in cast("list[Any]", tree)) + b"]"
        case _:
            return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _places(tree: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(tree, dict):
        for key, one in cast("dict[Any, Any]", tree).items():
            found += _places(one, (*path, key))
    elif isinstance(tree, list):
        for index, one in enumerate(cast("list[Any]", tree)):
            found += _places(one, (*path, index))
    return found


def _changed(rng: Random, tree: Any, path: tuple[Any, ...]) -> Any:
    if path and isinstance(tree, dict):
        told = cast("dict[Any, Any]", tree)
        return {key: _changed(rng, one, path[1:]) if key == path[0] else one for key, one in told.items()}
    if path and isinstance(tree, list):
        items = cast("list[Any]", tree)
        return [_changed(rng, one, path[1:]) if index == path[0] else one for index, one in enumerate(items)]
    return _another(rng, tree)


def _another(rng: Random, tree: Any) -> Any:
    if isinstance(tree, dict) and rng.random() < 0.7:
        told = cast("dict[Any, Any]", tree)
        keys = list(told)
        draw = rng.random()
        if keys and draw < 0.3:
            gone = rng.choice(keys)
            return {key: one for key, one in told.items() if key != gone}
        if keys and draw < 0.6:
            twice = rng.choice(keys)
            more = ((twice, value(rng)),)
            pairs = tuple(told.items())
            return Pairs(pairs + more if rng.random() < 0.5 else more + pairs)
        return told | {rng.choice((word(rng), "_meta", "cursor", "id", "requestState", "inputResponses")): value(rng)}
    if isinstance(tree, str) and rng.random() < 0.4:
        place = rng.randint(0, len(tree))
        return tree[:place] + rng.choice((word(rng), "", tree)) + tree[place + rng.randint(0, 2) :]
    if isinstance(tree, list) and rng.random() < 0.5:
        return cast("list[Any]", tree) * rng.choice((0, 2, 300))
    return value(rng)
