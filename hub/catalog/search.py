"""Ranks tools by what is asked for: words and pieces of words (BM25 over fields), and meaning (vectors), added up.

Words count by the share of the question that they cover, rare words more: one chance word of eight says little, all
eight say much, however the other tools fare. Vectors count by their cosine, and by how far they are trusted
(`Asked.trust`); without any, the words alone decide.
Pure but for its arrays: an `Index` is built whole from definitions, never changed, and asked about a set of rows
that admission has chosen *before*. How rare a word is, is counted over those rows only.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson

from hub.catalog import words
from hub.catalog.snapshot import Target
from hub.deferred import Deferred

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = NDArray[np.intp]
else:
    # 16 MB of an idle worker, which may never be asked to find a tool.
    np = Deferred("numpy")
    Floats = Rows = Any

K1, B = 1.2, 0.75
"""How soon a repeated word stops counting, and how much a long text is discounted (BM25)."""

FIELDS = (1.5, 1.0, 0.8, 0.3)
"""Weight of the name, the description, the parameters' names and descriptions, and every other text of the schema."""

MEANING = 0.65
"""What a cosine of one by fully trusted vectors is worth, beside a question whose every word is there.

0.5 favours questions that name things (bfcl), 0.7 those that describe them; `benchmarks/SEARCH.md` tells how this and
the two below were chosen, and what they give on sets that had no part in it.
"""

NAME = 0.5
"""Weight of a name's own vector beside its tool's, where names are made of words (`Index.wordy`)."""

FEEDBACK, FARTHEST = 2.0, 0.5
"""How far the question is moved towards the best find before the vectors are asked again: the square of the share of
the question that its words cover, so many times, and at most so far. A find by a chance word does not lead astray."""

CANDIDATES = 100
"""The best finds that are compared with the moved question, at least; with forty, every set comes out the same."""

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

    def covered(self, query: Mapping[str, int], visible: NDArray[np.bool_] | None, of: int) -> Floats:
        """The share of a question that every row covers, from 0 to 1; rarity is counted over the `of` visible rows.

        A term that no visible row has counts as the rarest: what nobody offers is part of what was asked.
        """
        scores = np.zeros(self.size, dtype=np.float32)
        nowhere = (np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
        most = 0.0
        for term, times in query.items():
            rows, worth = self._postings.get(term, nowhere)
            frequency = len(rows) if visible is None else int(np.count_nonzero(visible[rows]))
            rarity = math.log1p((of - frequency + 0.5) / (frequency + 0.5)) * times * (K1 + 1) / (times + K1)
            most += rarity * (K1 + 1)
            if frequency:
                scores[rows] += worth * rarity
        return scores / np.float32(most) if most else scores


@dataclass(frozen=True, slots=True)
class Index:
    """All tools of a snapshot, ready to be asked."""

    documents: tuple[Document, ...]
    row: Mapping[tuple[str, str, str], int]
    """By server, name and digest, for a version that is tried out has tools of the same names; and by an empty digest
    the first of each name."""
    terms: Terms
    pieces: Terms
    wordy: float
    """The share of the names' words that descriptions use too: a name such as `bert-x2-1563` tells nothing."""
    meanings: Mapping[str, Meaning] = field(default_factory=dict[str, Meaning])

    def rows(self, targets: Sequence[Target]) -> tuple[Rows, list[Target]]:
        """The rows of these tools, and the tools that have one."""
        found = [(self._row(one), one) for one in targets]
        held = [(row, one) for row, one in found if row is not None]
        return np.array([row for row, _ in held], dtype=np.intp), [one for _, one in held]

    def _row(self, target: Target) -> int | None:
        exact = self.row.get((target.server, target.name, target.digest))
        return self.row.get((target.server, target.name, "")) if exact is None else exact

    def rank(self, query: str, rows: Rows, limit: int, asked: Asked | None = None) -> list[int]:
        """The best places within `rows`, best first; those that have nothing in common with the question are left out.

        The order of `rows` settles ties.
        """
        if not len(rows):
            return []
        covered = self.by_words(query, rows)
        if asked is None or asked.trust < TRUST_FLOOR or not asked.meaning.known[rows].any():
            return [int(place) for place in _first(covered, limit) if covered[place] > 0]
        weight = np.float32(MEANING * min(asked.trust / SURE, 1.0))
        matrix, known = asked.meaning.matrix, asked.meaning.known[rows]
        near = _near(matrix, rows, asked.vector)
        # A tool without a vector yet is as near as the mean: neither helped nor hindered.
        middle = np.float32(near[known].mean())
        score = covered + weight * np.where(known, near, middle)
        score[~known & (covered <= 0)] = -np.inf
        finds = _first(score, max(CANDIDATES, limit))
        moved = min(FEEDBACK * float(covered[finds[0]]) ** 2, FARTHEST)
        again = matrix[rows[finds]] @ _unit(asked.vector + moved * matrix[rows[finds[0]]])
        final = covered[finds] + weight * np.where(known[finds], again, middle)
        order = np.argsort(-final, kind="stable")
        return [int(finds[place]) for place in order if score[finds[place]] > -np.inf][:limit]

    def by_words(self, query: str, rows: Rows) -> Floats:
        """The share of the question that each of `rows` covers, the mean of whole words and of pieces."""
        visible: NDArray[np.bool_] | None = None
        if len(rows) != len(self.documents):
            visible = np.zeros(len(self.documents), dtype=np.bool_)
            visible[rows] = True
        plain, cut = words.counted(query)
        of = len(rows)
        both = self.terms.covered(plain, visible, of) + self.pieces.covered(cut, visible, of)
        return both[rows] / np.float32(2)


def build(targets: Sequence[Target]) -> Index:
    """The index of these tools, without vectors. A definition that is there twice counts once."""
    documents: list[Document] = []
    counts: list[list[tuple[Counter[str], Counter[str]]]] = []
    row: dict[tuple[str, str, str], int] = {}
    for target in targets:
        key = (target.server, target.name, target.digest)
        if key in row:
            continue
        row[key] = len(documents)
        row.setdefault((target.server, target.name, ""), len(documents))
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


def _first(scores: NDArray[np.floating[Any]], most: int) -> Rows:
    """The places of the best scores, best first, those of equal score in their order."""
    if len(scores) <= most:
        return np.argsort(-scores, kind="stable")
    # All that are as good as the last one: a partition alone would choose among equals by chance.
    places = np.flatnonzero(scores >= np.partition(scores, len(scores) - most)[len(scores) - most])
    return places[np.argsort(-scores[places], kind="stable")][:most]


def _unit(vector: NDArray[Any]) -> Floats:
    return (vector / (float(np.linalg.norm(vector)) + 1e-9)).astype(np.float32)
