"""Rounds into rows, and rows into a Markdown table: ratios first, absolute figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import measure
from benchmarks.cases import Case
from benchmarks.measure import QUIET, Round

Row = dict[str, Any]

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("p50 ms", "hub_p50", "{:.2f}"),
    ("added", "added_p50", "{:+.2f}"),
    ("added by floor", "floor_added_p50", "{:+.2f}"),
    ("p99 ms", "hub_p99", "{:.1f}"),
    ("floor's p99", "floor_p99", "{:.1f}"),
    ("calls/s", "hub_rate", "{:,.0f}"),
    ("of direct", "rate_of_direct", "{:.0%}"),
    ("of floor", "rate_of_floor", "{:.0%}"),
    ("CPU ms/call", "hub_cpu", "{:.3f}"),
    ("floor's CPU", "floor_cpu", "{:.3f}"),
    ("**CPU: hub/floor**", "cpu_of_floor", "**{:.2f}**"),
    ("RSS MB", "hub_memory", "{:.0f}"),
)


def rows(cases: Sequence[Case], taken: Mapping[str, list[Round]]) -> list[Row]:
    """One row a case, medians over its rounds."""
    return [row(case, taken[case.key]) for case in cases if case.key in taken]


def row(case: Case, rounds: list[Round]) -> Row:
    """Medians, and medians of per-round ratios."""
    found: Row = {"name": case.name, "world": case.world, "era": case.load.era, "connections": case.load.connections}
    for system in ("direct", "floor", "hub"):
        for figure in ("rate", "p50", "p99", "cpu", "memory"):
            found[f"{system}_{figure}"] = measure.middle(rounds, system, figure)
    return found | {
        "added_p50": measure.added(rounds, "hub", "direct"),
        "floor_added_p50": measure.added(rounds, "floor", "direct"),
        "rate_of_direct": measure.ratio(rounds, "hub", "direct", "rate"),
        "rate_of_floor": measure.ratio(rounds, "hub", "floor", "rate"),
        "cpu_of_floor": measure.ratio(rounds, "hub", "floor", "cpu"),
        "foreign": max(map(measure.noise, rounds)),
        "rounds": len(rounds),
    }


def markdown(about: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The whole report."""
    lines = [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", table(rows), ""]
    lines.append(f"`~`: other programs had more than {QUIET:.0%} of the CPU in a round that counts; trust its ratios.")
    noisiest = max((one["foreign"] for one in rows), default=0.0)
    lines.append(f"Largest share of others: {noisiest:.0%}.")
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    titles = ["what", "era", "at", *(title for title, _, _ in COLUMNS)]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for one in rows:
        mark = "~" if one["foreign"] > QUIET else ""
        cells = [one["name"] + mark, one["era"], str(one["connections"])]
        lines.append(_line([*cells, *(form.format(one[key]) for _, key, form in COLUMNS)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
