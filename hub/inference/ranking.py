"""Which tool suits the user's words: nearness of meaning, by an embedding model, together with shared words.

A model of a hundred million parameters picks the right one of three tools half of the time; an embedding model picks
it nearly always, in milliseconds.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hub.errors import HubError

Vector = Sequence[float]
Embed = Callable[[list[str]], Awaitable[list[list[float]]]]

VECTORS_KEPT = 4096
SHARED_WORDS_WEIGHT = 0.3
"""Of the share of the question's rare words that a tool's text contains; cosine has weight 1."""

_WORD = re.compile(r"[a-z0-9]+|[\u3400-\u9fff]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can do does for from get give given has have how i in is it me my of on or our"
        " please tell that the this to use using want was what when where which who will with you your",
    )
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of a request: its name, what it says of itself, and the schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]

    @property
    def text(self) -> str:
        """What it is ranked by."""
        return f"{_spaced(self.name)}. {self.description}".strip()

    @property
    def words(self) -> frozenset[str]:
        """Its words and those of its arguments."""
        return words(" ".join([self.text, *self._arguments()]))

    def _arguments(self) -> list[str]:
        properties = self.schema.get("properties")
        told: list[str] = []
        for name, schema in cast("dict[str, Any]", properties).items() if isinstance(properties, dict) else ():
            described = cast("dict[str, Any]", schema).get("description", "") if isinstance(schema, dict) else ""
            told.append(f"{_spaced(name)} {described}")
        return told


@dataclass(frozen=True, slots=True)
class Ranked:
    """A tool and how well it suits; higher is better, comparable within and between questions."""

    tool: Tool
    score: float


class Ranker:
    """Ranks tools; remembers the vectors of tool texts, for clients send the same tools again and again."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()

    async def rank(self, question: str, tools: Sequence[Tool], embed: Embed | None) -> list[Ranked]:
        """All tools, the best first. Without an embedding model, or when it fails, shared words decide alone."""
        shared = _shared(words(question), [tool.words for tool in tools])
        near = await self.nearness(question, [tool.text for tool in tools], embed)
        scored = [
            Ranked(tool, cosine + SHARED_WORDS_WEIGHT * share)
            for tool, cosine, share in zip(tools, near, shared, strict=True)
        ]
        return sorted(scored, key=lambda ranked: -ranked.score)

    async def nearness(self, question: str, texts: Sequence[str], embed: Embed | None) -> list[float]:
        """Cosine of the question to each text; zeros when nothing embeds."""
        if embed is None:
            return [0.0] * len(texts)
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        try:
            asked, *fresh = await embed([question, *missing.values()])
        except (HubError, ValueError):
            return [0.0] * len(texts)
        known = dict(zip(missing, fresh, strict=True)) | {
            key: self._vectors[key] for key in keys if key in self._vectors
        }
        for key in keys:
            self._vectors[key] = known[key]
            self._vectors.move_to_end(key)
        while len(self._vectors) > VECTORS_KEPT:
            self._vectors.popitem(last=False)
        return [_cosine(asked, known[key]) for key in keys]


def words(text: str) -> frozenset[str]:
    """Telling words of a text: stems of sorts for English, pairs of characters for Chinese."""
    found: set[str] = set()
    for match in _WORD.finditer(text.lower()):
        word = match.group()
        if word[0] >= "\u3400":
            found.update(word[i : i + 2] for i in range(max(len(word) - 1, 1)))
        elif word not in _COMMON and len(word) > 1:
            found.add(_stem(word))
    return frozenset(found)


def _shared(asked: frozenset[str], tools: list[frozenset[str]]) -> list[float]:
    weight = {
        word: math.log(1 + len(tools) / sum(word in tool for tool in tools))
        for word in asked
        if any(word in tool for tool in tools)
    }
    whole = sum(weight.values()) + 0.5 * (len(asked) - len(weight)) or 1.0
    return [sum(value for word, value in weight.items() if word in tool) / whole for tool in tools]


def _cosine(a: Vector, b: Vector) -> float:
    norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=False)) / norm if norm else 0.0


def _spaced(name: str) -> str:
    return _HUMP.sub(" ", name).replace("_", " ").replace("-", " ").replace(".", " ")


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ators", "ator", "ings", "ing", "ies", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
