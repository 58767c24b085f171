"""Two drawings as SVG, by hand: latency against load, and CPU per call against the number of tools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.cases import ERAS, SERVERS, TOOLS, World
from benchmarks.report import Row

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 400, 70, 60, 40, 150
COLOURS = ("#2563eb", "#d97706", "#6b7280", "#059669", "#b91c1c", "#7c3aed")


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of points."""

    name: str
    points: tuple[tuple[float, float], ...]


def drawings(rows: Sequence[Row]) -> dict[str, str]:
    """File names and their SVG; a drawing without points is left out."""
    load = [
        Line(f"{system}, {era}", _latencies(_echoes(rows, era), system))
        for era in ERAS
        for system in ("hub", "nginx", "direct")
    ]
    tools = [Line(f"hub, {era}", tuple(_by_tools(rows, era))) for era in ERAS]
    found = {
        "latency.svg": chart("Median latency against load (1 to 64 connections)", "calls/s", "p50, ms", load),
        "tools.svg": chart("CPU per call against the number of tools", "tools behind the hub", "CPU, ms", tools),
    }
    return {name: drawing for name, drawing in found.items() if drawing}


def _echoes(rows: Sequence[Row], era: str) -> list[Row]:
    return [one for one in rows if one["name"] == "echo" and one["world"] == "one" and one["era"] == era]


def _latencies(echoes: Sequence[Row], system: str) -> tuple[tuple[float, float], ...]:
    return tuple((one[f"{system}_rate"], one[f"{system}_p50"]) for one in echoes if f"{system}_rate" in one)


def _by_tools(rows: Sequence[Row], era: str) -> list[tuple[float, float]]:
    worlds: tuple[World, ...] = ("one", "many", "wide")
    return [
        (SERVERS[world] * TOOLS[world], one["hub_cpu"])
        for world in worlds
        for one in rows
        if (one["world"], one["era"], one["connections"]) == (world, era, 16) and one["name"].startswith("echo")
    ]


def chart(title: str, across: str, up: str, lines: Sequence[Line]) -> str:
    """An SVG of lines with dots, both axes from 0; empty when there is nothing to draw."""
    shown = [line for line in lines if line.points]
    if not shown:
        return ""
    right = nice(max(x for line in shown for x, _ in line.points))
    top = nice(max(y for line in shown for _, y in line.points))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / right * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for step in range(5):
        x, _ = at(right * step / 4, 0)
        _, y = at(0, top * step / 4)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * step / 4:g}</text>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{right * step / 4:,.10g}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 15}" text-anchor="middle">{escape(across)}</text>'
    )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{escape(up)}</text>'
    )
    for number, line in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y in line.points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        level = TOP + 10 + number * 20
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{level - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{level}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def nice(highest: float) -> float:
    """The end of an axis: the next of 1, 2, 4, 5 or 8 times a power of ten."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= highest)
