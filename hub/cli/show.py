"""How results look: aligned tables for people, JSON for programs, and nothing that a server says moves the cursor."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Terminal commands and marks that reorder text; tab and line feed stay."""

_UNSEEN = re.compile(r"[\x7f-\x9f]")


def clean(text: str) -> str:
    """Text of others without what a terminal would obey."""
    return _CONTROLS.sub("", text)


def line(text: object) -> str:
    """Text of others on one line."""
    return " ".join(clean(str(text)).split())


def width(text: str) -> int:
    """Terminal columns: wide East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def clipped(text: str, columns: int) -> str:
    """At most `columns` columns of text, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    kept, taken = "", 0
    for letter in text:
        taken += width(letter)
        if taken > columns - 1:
            break
        kept += letter
    return kept + "…"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], columns: int | None = None) -> str:
    """Aligned columns, two spaces apart; the last is clipped to the terminal's `columns`, None: never."""
    cells = [list(headings), *([line(cell) for cell in row] for row in rows)]
    widths = [max(width(row[place]) for row in cells) for place in range(len(headings))]
    lines: list[str] = []
    for row in cells:
        whole = "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)).rstrip()
        lines.append(whole if columns is None else clipped(whole, columns))
    return "\n".join(lines)


def print_json(value: Any, indent: int | None = 2) -> None:
    """JSON on stdout, safe on a terminal too."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    click.echo(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table on stdout, clipped only where a person looks; `empty` on stderr when there is no row."""
    if not rows:
        click.echo(empty, err=True)
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(table(headings, rows, columns))


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Names and values below each other; empty values are left out."""
    kept = [(name, value) for name, value in fields if value not in (None, "", [], {})]
    wide = max((width(name) for name, _ in kept), default=0)
    for name, value in kept:
        lines = clean(str(value)).splitlines() or [""]
        click.echo(f"{name}{' ' * (wide - width(name))}  {lines[0]}")
        for following in lines[1:]:
            click.echo(f"{' ' * wide}  {following}")


def counted(count: int, what: str) -> str:
    """A number and its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def moment(text: str | None) -> str:
    """A moment of the API in short: UTC, to the second."""
    return "" if not text else f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def length(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = int(seconds)
    for size, unit, smaller, under in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {under}" if rest else "")
    return f"{seconds:.1f} s"
