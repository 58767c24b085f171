"""The last lines of the log files, bounded in every direction, secrets out. Blocks: run it in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson

from hub.telemetry.redaction import redact

TAIL_BYTES = 2**20
"""Read from the end of each file; about 5,000 lines."""
MOST_FILES = 200
LONGEST_LINE = 16_384


def tail(folder: Path, source: str, wanted: str, limit: int) -> list[dict[str, Any]]:
    """The last `limit` lines that hold `wanted`, oldest first. `source` is a log's name without `.log`; empty: all."""
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.log"))[:MOST_FILES]:
        # A source is compared, never made into a path.
        if source and path.stem != source:
            continue
        found = [line for line in _lines(path) if not wanted or wanted.lower() in line["message"].lower()]
        lines += found[-limit:]
    lines.sort(key=lambda line: str(line["at"]))
    return lines[-limit:]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_symlink():
        return
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            content = file.read(TAIL_BYTES)
    except OSError:
        return  # turned over or removed since it was listed
    parts = content.split(b"\n")
    # The first may be the end of a longer line, when the file was not read from its beginning.
    for part in parts[1:] if size > TAIL_BYTES else parts:
        if part.strip():
            yield _line(part[:LONGEST_LINE], path.stem)


def _line(part: bytes, source: str) -> dict[str, Any]:
    try:
        parsed: Any = orjson.loads(part)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        return {"at": "", "source": source, "level": "info", "message": redact(part.decode(errors="replace"))}
    entry = cast("dict[str, Any]", parsed)
    return {
        **{name: redact(value) if isinstance(value, str) else value for name, value in entry.items()},
        "at": str(entry.get("at", "")),
        "source": str(entry.get("source") or source),
        "level": str(entry.get("level", "info")),
        "message": redact(str(entry.get("message", ""))),
    }
