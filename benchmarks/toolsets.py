"""Labelled questions over catalogs of tools, as MCP definitions: public sets, our Chinese ones, and tools met in use.

The public sets are read from ENTREPOT_TEST_DATA. Where one tells parameters in another form than JSON Schema, they
are put into a schema, as the server of such a tool would have to: a list of arguments, or a function's signature.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from hub.catalog.snapshot import Target

PUBLIC = ("bfcl", "metatool", "apibank", "toolink", "gorilla_huggingface")
HERE = Path(__file__).parent / "data"
SIGNATURE = re.compile(r"\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the places of the tools that are right."""

    text: str
    gold: frozenset[int]


@dataclass(frozen=True, slots=True)
class ToolSet:
    """A catalog and its questions."""

    name: str
    targets: tuple[Target, ...]
    questions: tuple[Question, ...]


def public(data: Path, name: str) -> ToolSet:
    """One of the public sets."""
    rows = _lines(data / "tools" / name / "tools.jsonl.gz")
    places = {row["id"]: place for place, row in enumerate(rows)}
    asked = _lines(data / "tools" / name / "queries.jsonl.gz")
    targets = tuple(_target(place, row["name"], row["description"], _schema(row)) for place, row in enumerate(rows))
    return ToolSet(name, targets, tuple(_question(places, row) for row in asked))


def chinese(data: Path, name: str) -> ToolSet:
    """Our Chinese questions over the tools of a public set."""
    of = public(data, name)
    places = {row["id"]: place for place, row in enumerate(_lines(data / "tools" / name / "tools.jsonl.gz"))}
    asked = [row for row in _lines(HERE / "chinese_queries.jsonl") if row["set"] == name]
    return ToolSet(f"{name}, asked in Chinese", of.targets, tuple(_question(places, row) for row in asked))


def others() -> list[ToolSet]:
    """Tools of servers in use (ours and well-known ones), asked in English and in Chinese."""
    rows = _lines(HERE / "other_tools.jsonl")
    places = {row["name"]: place for place, row in enumerate(rows)}
    targets = tuple(
        _target(place, row["name"], row["description"], row["inputSchema"]) for place, row in enumerate(rows)
    )
    asked = _lines(HERE / "other_queries.jsonl")
    english = tuple(_question(places, row) for row in asked if row["query"].isascii())
    rest = tuple(_question(places, row) for row in asked if not row["query"].isascii())
    return [ToolSet("servers in use", targets, english), ToolSet("servers in use, in Chinese", targets, rest)]


def many(data: Path, size: int) -> tuple[Target, ...]:
    """A catalog of `size` tools: those of all sets, again and again under other names."""
    every = [target for name in PUBLIC for target in public(data, name).targets]
    made: list[Target] = []
    while len(made) < size:
        for target in every[: size - len(made)]:
            body = json.loads(target.fragment)
            body["name"] = f"{body['name']}_{len(made)}"
            made.append(Target(f"s{len(made)}", "tool", body["name"], body["name"], orjson.dumps(body), ""))
    return tuple(made)


def _question(places: dict[str, int], row: dict[str, Any]) -> Question:
    return Question(row["query"], frozenset(places[one] for one in row["gold"]))


def _target(place: int, name: str, description: str, schema: dict[str, Any]) -> Target:
    body = orjson.dumps({"name": name, "description": description, "inputSchema": schema})
    # Each on a server of its own: some sets have a name twice.
    return Target(f"s{place}", "tool", name, name, body, "")


def _schema(row: dict[str, Any]) -> dict[str, Any]:
    given: Any = row.get("parameters")
    if isinstance(given, dict):
        return cast("dict[str, Any]", given)
    if isinstance(given, list):
        told = cast("list[dict[str, Any]]", given)
        kept = {one["name"]: {k: v for k, v in one.items() if k in ("description", "schema")} for one in told}
        return {"type": "object", "properties": kept}
    raw: dict[str, Any] = row.get("raw") or {}
    signature = SIGNATURE.search(str(raw.get("func_description") or ""))
    names = [part.split("=")[0].split(":")[0].strip() for part in signature[1].split(",")] if signature else []
    return {"type": "object", "properties": {name: {} for name in names if name}}


def _lines(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [json.loads(line) for line in text.splitlines() if line.strip()]
