"""Ranks tools by what is asked for: words and pieces of words (BM25 over fields), and meaning (vectors), added up.

Pure but for its arrays: an `Index` is built whole from definitions, never changed, and asked about a set of rows
that admission has chosen *before*. Rarity of words and the spread of scores are taken over those rows only, so that
nothing withheld has a say in what is found. Vectors are weighted by how far they can be trusted (`Meaning.trust`);
without any, the words alone decide.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from hub.catalog import words
from hub.catalog.snapshot import Target

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

K1, B = 1.2, 0.5
"""How soon a repeated word stops counting, and how much a long text is discounted (BM25)."""

FIELDS = (1.5, 1.0, 0.8, 0.3)
"""Weight of the name, the description, the parameters' names and descriptions, and every other text of the schema."""

MEANING = 4.0
"""Weight of fully trusted vectors beside words and pieces, one each. Any from 3 to 4 does as well on five sets."""

NAME = 0.5
"""Weight of a name's own vector beside its tool's, where names are made of words (`Index.wordy`)."""

FEEDBACK = 0.3
"""How far the question is moved towards the best find before the vectors are asked again."""

SURE = 0.75
"""The share of the probes from which vectors have their whole weight: the probes are harder than questions are."""

TRUST_FLOOR = 0.5
"""Vectors that find less than half of what they are tested with are left out: noise would drag the words down."""

LONGEST_PASSAGE = 600
"""Characters of a tool that are made into a vector; sentence encoders blur what is longer."""

PARAMETER_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Document:
    """One tool as it is searched: which it is, its fields, and its parts as vectors see it."""

    key: tuple[str, str]
    """Server, and the server's own name for the tool."""
    digest: str
    name: str
    passage: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """The vectors of an index by one model: a row of zeros where a tool has none yet."""

    model: str
    matrix: Floats
    known: NDArray[np.bool_]

    @property
    def complete(self) -> float:
        """The share of tools that have a vector."""
        return float(self.known.mean()) if len(self.known) else 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's vector by one model, and how far that model is trusted with the question's language."""

    meaning: Meaning
    vector: Floats
    trust: float


class Terms:
    """Postings of one kind of term: for each, the rows that have it and what it is worth there."""

    def __init__(self, counts: Sequence[Sequence[Mapping[str, int]]]) -> None:
        """`counts` is per tool and field how often each term is there."""
        self.size = len(counts)
        places = len(counts[0]) if counts else len(FIELDS)
        lengths = np.array([[sum(one.values()) for one in fields] for fields in counts], dtype=np.float32)
        lengths = lengths.reshape(self.size, places)
        average = lengths.mean(axis=0) if self.size else np.ones(places)
        norms = 1 - B + B * lengths / np.maximum(average, 1e-9)
        rows: defaultdict[str, list[int]] = defaultdict(list)
        weights: defaultdict[str, list[float]] = defaultdict(list)
        for row, fields in enumerate(counts):
            worth: defaultdict[str, float] = defaultdict(float)
            for place, one in enumerate(fields):
                scale = FIELDS[place] / float(norms[row, place])
                for term, times in one.items():
                    worth[term] += scale * times
            for term, weight in worth.items():
                rows[term].append(row)
                weights[term].append(weight * (K1 + 1) / (weight + K1))
        self._postings: dict[str, tuple[NDArray[np.int32], Floats]] = {
            term: (np.array(found, dtype=np.int32), np.array(weights[term], dtype=np.float32))
            for term, found in rows.items()
        }

    def score(self, query: Mapping[str, int], visible: NDArray[np.bool_] | None, of: int) -> Floats:
        """The worth of every row for a question; rarity is counted over the `of` visible rows."""
        scores = np.zeros(self.size, dtype=np.float32)
        for term, times in query.items():
            found = self._postings.get(term)
            if found is None:
                continue
            rows, worth = found
            frequency = len(rows) if visible is None else int(np.count_nonzero(visible[rows]))
            if frequency:
                rarity = float(np.log1p((of - frequency + 0.5) / (frequency + 0.5)))
                scores[rows] += worth * (rarity * times * (K1 + 1) / (times + K1))
        return scores


@dataclass(frozen=True, slots=True)
class Index:
    """All tools of a snapshot, ready to be asked."""

    documents: tuple[Document, ...]
    row: Mapping[tuple[str, str], int]
    terms: Terms
    pieces: Terms
    wordy: float
    """The share of the names' words that descriptions use too: a name such as `bert-x2-1563` tells nothing."""
    meanings: Mapping[str, Meaning] = field(default_factory=dict[str, Meaning])

    def rows(self, targets: Sequence[Target]) -> tuple[Rows, list[Target]]:
        """The rows of these tools, and the tools that have one."""
        held = [one for one in targets if (one.server, one.name) in self.row]
        return np.array([self.row[one.server, one.name] for one in held], dtype=np.intp), held

    def rank(self, query: str, rows: Rows, limit: int, asked: Asked | None = None) -> list[int]:
        """The best places within `rows`, best first; those that have nothing in common with the question are left out.

        The order of `rows` settles ties.
        """
        if not len(rows):
            return []
        plain, cut = self.by_words(query, rows)
        score = _standard(plain) + _standard(cut)
        touched = (plain > 0) | (cut > 0)
        if asked is not None and asked.trust >= TRUST_FLOOR:
            weight = MEANING * min(asked.trust / SURE, 1.0)
            known = asked.meaning.known[rows]
            matrix = asked.meaning.matrix
            near = _near(matrix, rows, asked.vector)
            best = int(np.argmax(score + weight * _standard(near, known)))
            moved = _unit(asked.vector + FEEDBACK * _unit(matrix[rows[best]]))
            score = score + weight * _standard(_near(matrix, rows, moved), known)
            touched = touched | known
        order = np.argsort(-score, kind="stable")
        return [int(place) for place in order[: limit * 2] if touched[place]][:limit]

    def by_words(self, query: str, rows: Rows) -> Floats:
        """The scores by words and by pieces, of each of `rows`."""
        visible: NDArray[np.bool_] | None = None
        if len(rows) != len(self.documents):
            visible = np.zeros(len(self.documents), dtype=np.bool_)
            visible[rows] = True
        plain, cut = words.counted(query)
        return np.stack(
            (self.terms.score(plain, visible, len(rows))[rows], self.pieces.score(cut, visible, len(rows))[rows])
        )


def build(targets: Sequence[Target]) -> Index:
    """The index of these tools, without vectors. Of a tool that is there twice, the first counts."""
    documents: list[Document] = []
    counts: list[list[tuple[Counter[str], Counter[str]]]] = []
    row: dict[tuple[str, str], int] = {}
    for target in targets:
        key = (target.server, target.name)
        if key in row:
            continue
        row[key] = len(documents)
        document, fields = read(target)
        documents.append(document)
        counts.append([words.counted(text) for text in fields])
    return Index(
        tuple(documents),
        row,
        Terms([[plain for plain, _ in fields] for fields in counts]),
        Terms([[cut for _, cut in fields[:3]] for fields in counts]),
        _wordy([(fields[0][0], fields[1][0]) for fields in counts]),
    )


def _wordy(tools: Sequence[tuple[Counter[str], Counter[str]]]) -> float:
    """How far names are made of words that descriptions of other tools use."""
    used = Counter(term for _, said in tools for term in said)
    shares = [sum(1 for term in name if used[term] > (term in said)) / max(len(name), 1) for name, said in tools]
    return sum(shares) / max(len(shares), 1)


def read(target: Target) -> tuple[Document, tuple[str, str, str, str]]:
    """A tool's definition as text: the document, and its fields in the order of `FIELDS`."""
    parsed: Any = orjson.loads(target.fragment)
    told = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    title, description = told.get("title"), told.get("description")
    named = words.spaced(target.name)
    if isinstance(title, str) and title != target.name:
        named = f"{named} {title}"
    said = description[: words.LONGEST_TEXT] if isinstance(description, str) else ""
    schema = told.get("inputSchema")
    parameters = words.parameters(schema)
    passage = f"{named}: {said} {_listed(parameters)}"[:LONGEST_PASSAGE]
    digest = hashlib.sha256(f"{named}\n{passage}".encode()).hexdigest()[:32]
    return Document((target.server, target.name), digest, named, passage), (
        named,
        said,
        parameters,
        words.strings(schema),
    )


def _listed(parameters: str) -> str:
    return ", ".join(word for word in parameters.replace("_", " ").split())[:PARAMETER_CHARACTERS]


def _near(matrix: Floats, rows: Rows, vector: Floats) -> Floats:
    return (matrix @ vector)[rows] if len(rows) * 2 >= len(matrix) else matrix[rows] @ vector


def _standard(scores: Floats, known: NDArray[np.bool_] | None = None) -> Floats:
    """Scores in units of their own spread, so that those of different arms can be added; unknown ones at the mean."""
    if known is None or bool(known.all()):
        return (scores - scores.mean()) / (scores.std() + 1e-9)
    if not bool(known.any()):
        return np.zeros_like(scores)
    held = scores[known]
    return np.where(known, (scores - held.mean()) / (held.std() + 1e-9), 0).astype(np.float32)


def _unit(vector: NDArray[Any]) -> Floats:
    return (vector / (float(np.linalg.norm(vector)) + 1e-9)).astype(np.float32)
