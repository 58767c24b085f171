"""Hybrid retrieval: keyword and vector ranks fused, and an honest nothing where nothing is about the question.

The vector arm is weighted down where the model is weak, so that fusion cannot drag the keyword arm below itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from servers.rag.keywords import query_terms, telling_terms
from servers.rag.store import Passage, Store

DEPTH = 50
"""Candidates taken from each arm."""
DENSE_WEIGHT = 0.2
"""Weight of the vector arm's ranks beside 1 for the keyword arm; measured with benchmarks/rag_retrieval.py."""
_K = 30.0
"""Rank smoothing, measured likewise; the usual 60 flattens short lists."""
FLOOR = 0.42
"""Least coverage + cosine of a passage. Questions from foreign subjects stay below 0.41 on the samples, answerable
ones above 0.5; a cosine alone reaches it for questions in another language than the passage."""


@dataclass(frozen=True)
class Hit:
    """A passage; `score` from 0 to 1 tells how well it fits, and only orders hits of the same search."""

    passage: Passage
    score: float
    coverage: float
    cosine: float


def fused(keyword: Sequence[tuple[int, float]], dense: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Weighted reciprocal rank fusion; 1 is the first place of both. Best first."""
    scores: dict[int, float] = {}
    for weight, ranked in ((1.0, keyword), (DENSE_WEIGHT, dense)):
        for rank, (number, _) in enumerate(ranked):
            scores[number] = scores.get(number, 0.0) + weight * _K / (_K + rank)
    top = 1.0 + DENSE_WEIGHT
    return sorted(((number, score / top) for number, score in scores.items()), key=lambda entry: -entry[1])


def coverage(query: Sequence[str], held: dict[str, set[int]], total: int, number: int) -> float:
    """Which part of the question's information occurs in chunk `number`, from 0 to 1. A term nobody has weighs most."""
    weights = {term: math.log(1 + (total + 1) / (1 + len(held[term]))) for term in query}
    whole = sum(weights.values())
    return sum(weight for term, weight in weights.items() if number in held[term]) / whole if whole else 0.0


def search(
    store: Store, query: str, vector: Sequence[float] | None, limit: int, language: str = "", *, floor: bool = True
) -> list[Hit]:
    """The best `limit` passages for `query`. With `floor`, passages that are not about it are left out."""
    words = query_terms(query)
    keyword = store.by_keywords(words, DEPTH, language)
    dense = store.by_vector(vector, DEPTH, language) if vector is not None else []
    ranked = fused(keyword, dense)
    if not ranked:
        return []
    telling = telling_terms(words)
    held, total = store.occurrences(telling)
    cosines = dict(dense)
    hits: list[Hit] = []
    passages = store.passages([number for number, _ in ranked])
    for number, score in ranked:
        passage = passages.get(number)
        if passage is None:
            continue
        covered, cosine = coverage(telling, held, total, number), cosines.get(number, 0.0)
        if not floor or related(covered, cosine):
            hits.append(Hit(passage, round(score, 4), covered, cosine))
        if len(hits) == limit:
            break
    return hits


def related(covered: float, cosine: float) -> bool:
    """Whether a passage is about the question: it has its words, or its likeness, or some of both."""
    return covered + max(0.0, cosine) >= FLOOR
