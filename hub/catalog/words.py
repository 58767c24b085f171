"""What a text is about, as terms to rank by: words for meaning, pieces of words for their forms.

English words lose their endings and identifiers are taken apart; Chinese, which has no spaces, is read as pairs of
characters. Numbers are left out: they are values of arguments and say nothing about which tool takes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

LONGEST_TEXT = 4_000
"""Characters read of one text: a tool says what it does at the start."""

DEEPEST = 6
MOST_STRINGS = 400
"""Strings read of one schema; enumerations of countries and currencies would drown the rest."""

PIECE = 4
"""Characters of a piece: long enough to mean something, short enough to match other forms of a word."""

STOP_WORDS = (
    "a an the of to in on at for and or is are was were be been being this that these those it its as by with from "
    "into i me my we our us you your he she they them his her their can could would should will may might do does did "
    "how what which who whom when where why please there here have has had am not no if then than so such about just "
    "also get want need like help using use used"
)
STOP = frozenset(STOP_WORDS.split())

_WORD = re.compile(r"[a-z0-9]+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[\u00c0-\u024f\u0370-\u1fff]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_JOINT = re.compile(r"[_\-./:]+")
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

_ENDINGS = (
    ("ies", "y"),
    ("sses", "ss"),
    ("ational", "ate"),
    ("izations", "ize"),
    ("ization", "ize"),
    ("ations", "ate"),
    ("ation", "ate"),
    ("ments", "ment"),
    ("ingly", ""),
    ("edly", ""),
    ("ings", ""),
    ("ing", ""),
    ("ers", "er"),
    ("ors", "or"),
    ("ed", ""),
    ("es", ""),
    ("s", ""),
    ("ly", ""),
)


def spaced(identifier: str) -> str:
    """A name with its parts apart: `getUser_byID` reads `get User by ID`."""
    return _JOINT.sub(" ", _HUMP.sub(" ", identifier))


def is_dense(text: str) -> bool:
    """Whether a text is in a script without spaces (Chinese, Japanese, Korean), at least by a fifth."""
    return len(_DENSE.findall(text[:LONGEST_TEXT])) * 5 >= max(len(text.strip()[:LONGEST_TEXT]), 1)


def terms(text: str) -> list[str]:
    """The words of a text, in order, each in its plain form."""
    return [term for word in _words(text) for term in _plain(word)]


def pieces(text: str) -> list[str]:
    """The pieces of a text's words."""
    return [piece for word in _words(text) for piece in _cut(word)]


def counted(text: str) -> tuple[Counter[str], Counter[str]]:
    """Words and pieces of a text, each with how often it is there."""
    words, parts = Counter[str](), Counter[str]()
    for word, times in Counter(_words(text)).items():
        for term in _plain(word):
            words[term] += times
        for piece in _cut(word):
            parts[piece] += times
    return words, parts


def parameters(schema: object) -> str:
    """Names and descriptions of a schema's properties, at any depth."""
    return " ".join(_properties(schema, 0))


def strings(schema: object) -> str:
    """Every text of a schema: also titles, enumerations and defaults."""
    found: list[str] = []
    _collect(schema, 0, found)
    return " ".join(found)


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(spaced(text[:LONGEST_TEXT]).lower()):
        if word not in STOP and not word.isdigit():
            yield word


@lru_cache(maxsize=65_536)
def _plain(word: str) -> tuple[str, ...]:
    if _DENSE.match(word):
        pairs = tuple(word[at : at + 2] for at in range(len(word) - 1))
        return pairs or (word,)
    return (_stem(word),)


@lru_cache(maxsize=65_536)
def _cut(word: str) -> tuple[str, ...]:
    if _DENSE.match(word):
        return _plain(word)
    framed = f"^{word}$"
    cut = tuple(framed[at : at + PIECE] for at in range(len(framed) - PIECE + 1))
    return (framed, *cut) if len(framed) <= PIECE else cut


def _stem(word: str) -> str:
    if len(word) <= 3:
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(instead) >= 3:
            if ending == "s" and word.endswith(("ss", "us", "is")):
                return word
            word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _properties(schema: object, depth: int) -> Iterator[str]:
    properties = _mapping(_mapping(schema).get("properties"))
    if depth >= DEEPEST:
        return
    for name, described in list(properties.items())[:MOST_STRINGS]:
        yield name
        told = _mapping(described)
        if isinstance(told.get("description"), str):
            yield told["description"]
        yield from _properties(told, depth + 1)
        yield from _properties(told.get("items"), depth + 1)


def _collect(value: object, depth: int, found: list[str]) -> None:
    if depth > DEEPEST or len(found) >= MOST_STRINGS:
        return
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            found.append(key)
            _collect(inner, depth + 1, found)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            _collect(inner, depth + 1, found)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
