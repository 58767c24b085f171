"""Recall@5 and time of tool search on every set, beside plain BM25, plain embeddings and their plain fusion.

    OPENBLAS_NUM_THREADS=1 ENTREPOT_TEST_DATA=.../data python -m benchmarks.search [--set bfcl] [--cache FOLDER]

The index and the models are the hub's own; only the socket between the hub and its embedding engine is left out.
The hub's workers have that one thread too.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.toolsets import PUBLIC, Question, ToolSet, chinese, many, others, public
from hub.catalog import search, words
from hub.catalog.probes import PROBES
from hub.catalog.search import Asked, Floats, Index
from hub.catalog.vectors import meaning
from hub.catalog.words import is_dense
from hub.runner import embedder
from hub.runner.embedder import Encoder
from hub.runner.minilm import MiniLm

TOP = 5
RRF = 60
BATCH = 16


class Model:
    """An embedding model, its vectors kept in a folder, and its trust by language as the hub measures it."""

    def __init__(self, name: str, encoder: Any, cache: Path | None) -> None:
        self.name = name
        self._encoder = encoder
        self._cache = cache
        tools = self.encode([tool for tool, _, _ in PROBES])
        self.trust = tuple(self._found(tools, [one[place] for one in PROBES]) for place in (1, 2))

    def _found(self, tools: Floats, questions: Sequence[str]) -> float:
        best = np.argmax(self.encode(questions) @ tools.T, axis=1)
        return int(np.count_nonzero(best == np.arange(len(questions)))) / len(questions)

    def encode(self, texts: Sequence[str]) -> Floats:
        """One vector for each text."""
        key = hashlib.sha256("\0".join((self.name, *texts)).encode()).hexdigest()[:24]
        file = self._cache / f"{key}.npy" if self._cache else None
        if file is not None and file.exists():
            return np.load(file)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rows: dict[int, Floats] = {}
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            vectors, _ = self._encoder.encode([texts[place] for place in batch])
            rows |= dict(zip(batch, vectors, strict=True))
        found = np.stack([rows[place] for place in range(len(texts))])
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, found)
        return found

    def trusted(self, question: str) -> float:
        """Its trust in the language of a question."""
        return self.trust[1] if is_dense(question) else self.trust[0]


def recall(ranked: Sequence[int], question: Question) -> float:
    """The share of the right tools among the first five."""
    return len(question.gold & set(ranked[:TOP])) / len(question.gold)


def plain_bm25(tools: ToolSet) -> Callable[[str], Floats]:
    """Plain BM25 (k1 1.2, b 0.75) over all text of a definition, words in their plain form."""
    texts = [Counter(words.terms(" ".join(search.read(one)[1][:3]))) for one in tools.targets]
    lengths = np.array([sum(one.values()) for one in texts], dtype=np.float32)
    norms = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    holders: dict[str, list[int]] = {}
    for row, one in enumerate(texts):
        for term in one:
            holders.setdefault(term, []).append(row)

    def score(question: str) -> Floats:
        scores = np.zeros(len(texts), dtype=np.float32)
        for term in set(words.terms(question)):
            rows = holders.get(term, [])
            rarity = math.log(1 + (len(texts) - len(rows) + 0.5) / (len(rows) + 0.5))
            for row in rows:
                scores[row] += rarity * texts[row][term] * 2.2 / (texts[row][term] + norms[row])
        return scores

    return score


def first(scores: Floats) -> list[int]:
    """The places of the best scores."""
    return [int(place) for place in np.argsort(-scores, kind="stable")[:TOP]]


def fused(*scores: Floats) -> Floats:
    """Reciprocal rank fusion."""
    ranks = [np.argsort(np.argsort(-one, kind="stable"), kind="stable") for one in scores]
    return np.sum([1 / (RRF + rank + 1) for rank in ranks], axis=0).astype(np.float32)


def measured(tools: ToolSet, models: Sequence[Model]) -> dict[str, float]:
    """Recall@5 in per cent: the baselines, the words alone, and what the hub answers."""
    index = search.build(tools.targets)
    rows, _ = index.rows(tools.targets)
    meanings = {model.name: _meaning(index, model) for model in models}
    asked = {model.name: model.encode([one.text for one in tools.questions]) for model in models}
    passages = {model.name: model.encode([one.passage for one in index.documents]) for model in models}
    bm25 = plain_bm25(tools)
    sums: defaultdict[str, float] = defaultdict(float)
    for place, question in enumerate(tools.questions):
        lexical = bm25(question.text)
        sums["BM25"] += recall(first(lexical), question)
        for model in models:
            near = passages[model.name] @ asked[model.name][place]
            sums[model.name] += recall(first(near), question)
            sums[f"fusion {model.name}"] += recall(first(fused(lexical, near)), question)
        sums["words"] += recall(index.rank(question.text, rows, TOP), question)
        best = max(models, key=lambda model: model.trusted(question.text))
        vector = Asked(meanings[best.name], asked[best.name][place], best.trusted(question.text))
        sums["hub"] += recall(index.rank(question.text, rows, TOP, vector), question)
    return {name: 100 * total / len(tools.questions) for name, total in sums.items()}


def _meaning(index: Index, model: Model) -> search.Meaning:
    passages = model.encode([one.passage for one in index.documents])
    names = model.encode([one.name for one in index.documents])
    pairs = {
        one.digest: np.stack((passage, name)).astype(np.float16)
        for one, passage, name in zip(index.documents, passages, names, strict=True)
    }
    return meaning(index, model.name, pairs)


def timed(data: Path, models: Sequence[Model], size: int) -> None:
    """CPU and wall time of a question over `size` tools: its vector, and the ranking, half of the tools withheld."""
    targets = many(data, size)
    began = time.process_time()
    index = search.build(targets)
    built = time.process_time() - began
    questions = [one.text for name in PUBLIC for one in public(data, name).questions[:40]]
    generator = np.random.default_rng(1)
    for model in models:
        dimensions = model.encode(["x"]).shape[1]
        matrix = generator.standard_normal((size, dimensions)).astype(np.float32)
        whole = search.Meaning(model.name, matrix, np.ones(size, dtype=np.bool_))
        for told, some in (("all", targets), ("half", targets[::2])):
            rows, _ = index.rows(some)
            walls: list[float] = []
            began = time.process_time()
            for question in questions:
                start = time.perf_counter()
                vector = model._encoder.encode([question])[0][0]  # pyright: ignore[reportPrivateUsage] - past the cache
                index.rank(question, rows, TOP, Asked(whole, vector, 1.0))
                walls.append((time.perf_counter() - start) * 1000)
            spent = (time.process_time() - began) * 1000 / len(questions)
            p50, p95 = statistics.median(walls), sorted(walls)[int(len(walls) * 0.95)]
            print(
                f"{size} tools ({told} visible), {model.name}: CPU {spent:.1f} ms, wall p50 {p50:.1f} p95 {p95:.1f} ms"
            )
    print(f"index of {size} tools: built in {built:.1f} s of CPU")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--set", action="append", help="only this public set")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors between runs")
    parser.add_argument("--time-only", action="store_true")
    parser.add_argument("--size", type=int, default=10_000)
    options = parser.parse_args()
    data = Path(os.environ["ENTREPOT_TEST_DATA"])
    models = [
        Model("minilm-l6", MiniLm(), options.cache),
        Model(embedder.MODEL, Encoder(), options.cache),
    ]
    for model in models:
        print(f"trust of {model.name}: English {model.trust[0]:.2f}, Chinese {model.trust[1]:.2f}")
    names = options.set or PUBLIC
    if not options.time_only:
        sets = [public(data, name) for name in names]
        sets += [chinese(data, name) for name in ("metatool", "apibank", "bfcl") if not options.set]
        sets += others() if not options.set else []
        columns = ("BM25", *(kind + model.name for kind in ("", "fusion ") for model in models), "words", "hub")
        print("| set | tools | questions | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 3))
        for tools in sets:
            told = measured(tools, models)
            figures = " | ".join(f"{told[column]:.1f}" for column in columns)
            print(f"| {tools.name} | {len(tools.targets)} | {len(tools.questions)} | {figures} |", flush=True)
    timed(data, models, options.size)


if __name__ == "__main__":
    main()
