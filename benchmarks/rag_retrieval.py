"""nDCG@10 of the rag server's retrieval on public question sets; each passage is a document, as it would be ingested.

    ENTREPOT_TEST_DATA=.../data python benchmarks/rag_retrieval.py [--set xquad_en] [--queries 300]

Prints the keyword arm alone, the vector arm alone, and what the server answers (both fused, without and with the
relevance floor).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.rag import retrieve
from servers.rag.chunks import chunks_of
from servers.rag.embed import LocalEmbedder
from servers.rag.extract import extract_text
from servers.rag.keywords import query_terms
from servers.rag.store import Document, Store, now

SETS = ("xquad_en", "xquad_zh", "cmrc2018_half")


def rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def gain(ranked: Sequence[str], gold: Sequence[str]) -> float:
    """nDCG@10 with binary relevance; a document counts once, at its best chunk."""
    seen = list(dict.fromkeys(ranked))[:10]
    found = sum(1 / math.log2(rank + 2) for rank, name in enumerate(seen) if name in gold)
    return found / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(gold))))


def fill(store: Store, embedder: LocalEmbedder, documents: Sequence[dict[str, Any]]) -> None:
    """Ingest passages, in one embedding batch per hundred."""
    prepared = [(row["id"], extract_text("", row["text"])) for row in documents]
    for name, extracted in prepared:
        chunks = chunks_of(extracted.blocks)
        vectors = embedder.encode([chunk.with_context("") for chunk in chunks])
        text = extracted.text
        about = Document(name, "given", name, "", "", extracted.language, name, len(text), len(chunks), now())
        store.put(about, text, chunks, vectors)


def measure(data: Path, name: str, queries: int) -> dict[str, float]:
    """Figures of one set, in per cent, and milliseconds a query."""
    folder = data / "rag" / name
    embedder = LocalEmbedder()
    sums = dict.fromkeys(("keyword", "dense", "fused", "floor", "empty"), 0.0)
    with tempfile.TemporaryDirectory() as state:
        store = Store(Path(state))
        store.open_vectors(embedder.name)
        begun = time.perf_counter()
        fill(store, embedder, rows(folder / "docs.jsonl.gz"))
        filled = time.perf_counter() - begun
        asked = rows(folder / "queries.jsonl.gz")
        asked = asked[:: max(1, len(asked) // queries)] if queries else asked
        spent = 0.0
        for row in asked:
            vector = embedder.encode([row["query"]])[0]
            keyword = store.by_keywords(query_terms(row["query"]), retrieve.DEPTH)
            dense = store.by_vector(vector, retrieve.DEPTH)
            owner = {n: p.document for n, p in store.passages([n for n, _ in [*keyword, *dense]]).items()}
            sums["keyword"] += gain([owner[n] for n, _ in keyword], row["gold"])
            sums["dense"] += gain([owner[n] for n, _ in dense], row["gold"])
            sums["fused"] += gain([owner[n] for n, _ in retrieve.fused(keyword, dense)], row["gold"])
            begun = time.perf_counter()
            hits = retrieve.search(store, row["query"], vector, 20)
            spent += time.perf_counter() - begun
            sums["floor"] += gain([hit.passage.document for hit in hits], row["gold"])
            sums["empty"] += not hits
        store.close()
    figures = {key: round(100 * value / len(asked), 2) for key, value in sums.items()}
    return figures | {"queries": len(asked), "ms": round(1000 * spent / len(asked), 2), "ingest_s": round(filled, 1)}


def main() -> int:
    """Print one JSON line a set."""
    parser = argparse.ArgumentParser(description="nDCG@10 of the rag server's retrieval.")
    parser.add_argument("--set", action="append", choices=SETS)
    parser.add_argument("--queries", type=int, default=0, help="about how many questions a set (0: all)")
    options = parser.parse_args()
    if not (data := os.environ.get("ENTREPOT_TEST_DATA")):
        print("Set ENTREPOT_TEST_DATA to the folder of evaluation data.", file=sys.stderr)
        return 2
    for name in options.set or SETS:
        print(json.dumps({"set": name} | measure(Path(data), name, options.queries)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
