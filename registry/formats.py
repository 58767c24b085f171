"""Numbers, times, sizes and JSON as people of either language read them. Pure; the clock is an argument."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import orjson

Language = Literal["en", "zh"]
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONGEST_JSON = 60_000
"""Characters of one JSON value that a page shows; more makes a browser crawl."""


def moment(value: datetime | None, language: Language) -> str:
    """A moment to the second in UTC; empty for none. A moment without a zone is UTC."""
    if value is None:
        return ""
    at = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if language == "zh":
        return f"{at.year}年{at.month}月{at.day}日 {at:%H:%M:%S} UTC"
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}, {at:%H:%M:%S} UTC"


def instant(value: datetime | None, language: Language) -> str:
    """A moment in a table whose heading says UTC: as `moment`, without the zone."""
    return moment(value, language).removesuffix(" UTC")


def stamp(value: datetime | None) -> str:
    """A moment for machines: the `datetime` attribute of `<time>`."""
    if value is None:
        return ""
    return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()


def number(value: float) -> str:
    """A number with grouped thousands, which both languages write alike."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def duration(milliseconds: float, language: Language) -> str:
    """Milliseconds in the unit that reads best."""
    units = ("毫秒", "秒", "分") if language == "zh" else ("ms", "s", "min")
    if milliseconds < 1000:
        return f"{milliseconds:.0f} {units[0]}" if milliseconds >= 10 else f"{milliseconds:.1f} {units[0]}"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.1f} {units[1]}"
    return f"{milliseconds / 60_000:.1f} {units[2]}"


def pretty(value: Any) -> str:
    """A value as indented JSON, cut where a page would become unusable; text that is JSON is unfolded first."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value[:LONGEST_JSON]
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
    return text if len(text) <= LONGEST_JSON else text[:LONGEST_JSON] + "\n…"
