"""Rounds into rows, rows into Markdown: the promises first, then ratios, absolute figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import measure
from benchmarks.cases import BOUNDS, Bound, Case
from benchmarks.measure import QUIET, Round
from benchmarks.soak.scenario import Finding

Row = dict[str, Any]

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("p50 ms, direct", "direct_p50", "{:.2f}"),
    ("added by nginx", "nginx_added_p50", "{:+.2f}"),
    ("**added by the hub**", "added_p50", "**{:+.2f}**"),
    ("p99 ms", "hub_p99", "{:.1f}"),
    ("p99, times direct", "p99_of_direct", "{:.1f}"),
    ("calls/s", "hub_rate", "{:,.0f}"),
    ("of direct", "rate_of_direct", "{:.0%}"),
    ("CPU ms/call", "hub_cpu", "{:.3f}"),
    ("nginx's CPU", "nginx_cpu", "{:.3f}"),
    ("**CPU, times nginx's**", "cpu_of_nginx", "**{:.1f}**"),
    ("cores", "hub_cores", "{:.2f}"),
    ("RSS MB", "hub_memory", "{:.0f}"),
)

HOW = """## How it is measured

`benchmarks/mock.py` is a server in raw ASGI that speaks both eras. `benchmarks/load.py`, a process of its own, keeps
one request in flight on each connection and checks every answer (status, id, its own text, number of tools or
events); one wrong answer fails the run. The hub is started as users start it (`entrepot up --bare --detach`, a fresh
home; `servers add` or `apply`, `tokens create`), with authentication, admission, limits, guardrails, audit and
metrics on. nginx is a plain reverse proxy with keep-alive. In each round direct call, nginx and hub take turns on one
core, to which all processes are bound; a ratio is the median of the rounds' own ratios. CPU is user and system time
of the whole process tree (supervisor, worker, runner) between the window's two ends; RSS is theirs added up, shared
pages counted in each. While other programs take more than 15 % of the core, rounds are repeated, at most as many
again, and the quieter ones count.
"""


def rows(cases: Sequence[Case], taken: Mapping[str, list[Round]]) -> list[Row]:
    """One row a case, medians over its rounds."""
    return [row(case, taken[case.key]) for case in cases if case.key in taken]


def row(case: Case, rounds: list[Round]) -> Row:
    """Medians, and medians of per-round ratios."""
    found: Row = {"key": case.key, "name": case.name, "world": case.world, "era": case.load.era}
    found["connections"] = case.load.connections
    for system in rounds[0]:
        for figure in ("rate", "p50", "p99", "cpu", "memory", "cores"):
            found[f"{system}_{figure}"] = measure.middle(rounds, system, figure)
    found |= {
        "added_p50": measure.added(rounds, "hub", "direct"),
        "rate_of_direct": measure.ratio(rounds, "hub", "direct", "rate"),
        "p50_of_direct": measure.ratio(rounds, "hub", "direct", "p50"),
        "p99_of_direct": measure.ratio(rounds, "hub", "direct", "p99"),
        "foreign": max(map(measure.noise, rounds)),
        "rounds": len(rounds),
    }
    if "nginx" in rounds[0]:
        found["nginx_added_p50"] = measure.added(rounds, "nginx", "direct")
        found["cpu_of_nginx"] = measure.ratio(rounds, "hub", "nginx", "cpu")
    if "small" in rounds[0]:
        found["cpu_of_small"] = measure.ratio(rounds, "hub", "small", "cpu")
    return found


def promises(rows: Sequence[Row]) -> list[Finding]:
    """Every bound, and what the rows that it is about came to."""
    found: list[Finding] = []
    for bound in BOUNDS:
        for one in rows:
            column, _, at = bound.column.partition("@")
            if one["key"].startswith(bound.rows) and (not at or one["connections"] == int(at)) and column in one:
                found.append(_kept(bound, one, float(one[column])))
    return found


def _kept(bound: Bound, one: Row, figure: float) -> Finding:
    noisy = " ~" if one["foreign"] > QUIET else ""
    words = f"{bound.words}, {one['era']}"
    return Finding(words, f"{figure:.2f}{noisy}", f"at most {bound.most:g}", figure <= bound.most)


def markdown(about: Mapping[str, str], rows: Sequence[Row], probed: Mapping[str, Sequence[Finding]]) -> str:
    """The whole report."""
    lines = ["# Results of the benchmark", "", *(f"- {key}: {value}" for key, value in about.items()), ""]
    told = [*promises(rows), *(one for findings in probed.values() for one in findings)]
    if told:
        lines += ["## What is promised", "", findings_table(told), ""]
    if rows:
        lines += ["## Under load", "", table(rows), ""]
        lines.append(
            f"`~`: other programs had more than {QUIET:.0%} of the CPU in a round that counts; trust its ratios."
        )
        lines.append(f"Largest share of others: {max(one['foreign'] for one in rows):.0%}.")
        lines += ["", "![Latency against load](latency.svg) ![Cost against the number of tools](tools.svg)", ""]
    return "\n".join([*lines, HOW])


def findings_table(findings: Sequence[Finding]) -> str:
    """Figures beside their bounds."""
    lines = ["| what | measured | bound | |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.what} | {one.figure} | {one.bound} | {'ok' if one.kept else '**broken**'} |" for one in findings]
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown; a system that was not there leaves its cells empty."""
    titles = ["what", "era", "at", *(title for title, _, _ in COLUMNS)]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for one in rows:
        mark = "~" if one["foreign"] > QUIET else ""
        cells = [one["name"] + mark, one["era"], str(one["connections"])]
        lines.append(_line([*cells, *(form.format(one[key]) if key in one else "" for _, key, form in COLUMNS)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
