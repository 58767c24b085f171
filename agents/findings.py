"""What logs and replicas show to be wrong: found by rules in tool results, so that no model has to read tables.

Rules look at the shapes of results, not at the tools' names. Standard library only: this runs in the sandbox.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

MOST = 6
LONGEST_MESSAGE = 220
PROBLEMS = ("critical", "error", "warning")
MEMORY = re.compile(r"out of memory|\boom\b|memory limit|cannot allocate", re.IGNORECASE)
UNREACHABLE = re.compile(r"server-down|unreachable|refused|cannot be reached|timed? ?out", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what shows it, and what a person may do. Higher `weight` is more urgent."""

    text: str
    action: str
    weight: int


def findings(results: list[dict[str, Any]]) -> list[Finding]:
    """What is wrong by the structured results of tools, most urgent first, each once."""
    found: list[Finding] = []
    for result in results:
        found += [finding for row in _rows(result, "replicas") for finding in _of_replica(row)]
        found += [_of_line(row) for row in _rows(result, "lines") if _is_problem(row)]
        found += [_of_repeated(row) for row in _rows(result, "frequent_problems")]
    once = {_key(finding.text): finding for finding in reversed(found)}
    return sorted(once.values(), key=lambda finding: -finding.weight)[:MOST]


def overview(results: list[dict[str, Any]]) -> str:
    """What was looked at, in one sentence."""
    replicas = [row for result in results for row in _rows(result, "replicas")]
    counts = [row for result in results for row in _rows(result, "counts")]
    lines = sum(_number(row.get("lines")) for row in counts)
    bad = sum(_number(row.get("lines")) for row in counts if row.get("level") in PROBLEMS)
    running = sum(1 for row in replicas if _number(row.get("running")) >= _number(row.get("wanted")))
    return f"{lines} log lines, {bad} of them warnings or errors; {running} of {len(replicas)} servers run as wanted."


def _of_replica(row: dict[str, Any]) -> list[Finding]:
    name, state, reason = str(row.get("name")), str(row.get("state")), str(row.get("reason") or "")
    running, wanted, restarts = (_number(row.get(key)) for key in ("running", "wanted", "restarts"))
    why = f": {reason[:LONGEST_MESSAGE]}" if reason else ""
    if running < wanted and state != "idle":
        text = f"{name}: {running} of {wanted} replicas run, state {state}{why}."
        return [Finding(text, f"Look at the log of {name}, mend what it names, then restart {name}.", 100 + wanted)]
    if restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        text = f"{name}: runs, but had to be restarted {times}{why}."
        action = f"Read the last lines of {name}'s log before the restart; if it goes on, give {name} more memory."
        return [Finding(text, action, 40 + min(restarts, 20))]
    return []


def _is_problem(row: dict[str, Any]) -> bool:
    return row.get("level") in PROBLEMS or bool(re.search(r"\b[a-z-]+-down\b", str(row.get("message") or "")))


def _of_line(row: dict[str, Any]) -> Finding:
    source, level = str(row.get("source")), str(row.get("level"))
    message = " ".join(str(row.get("message") or "").split())[:LONGEST_MESSAGE]
    weight = {"critical": 90, "error": 80, "warning": 30}.get(level, 50)
    at = str(row.get("at") or "")[:19]
    return Finding(f"{source} ({level}{f' at {at}' if at else ''}): {message}", _action(source, message), weight)


def _of_repeated(row: dict[str, Any]) -> Finding:
    times, message = _number(row.get("lines")), " ".join(str(row.get("message")).split())[:LONGEST_MESSAGE]
    return Finding(f"{times} times in the log: {message}", _action("", message), 20 + min(times, 60))


def _action(source: str, message: str) -> str:
    if MEMORY.search(message):
        return f"Give {source or 'the process that says so'} more memory, or fewer tasks at once."
    if UNREACHABLE.search(message):
        return "Check that the server behind this message is running and that its registered address is right."
    return f"Look at the log of {source} around this message." if source else "Search the log for this message."


def _key(text: str) -> str:
    """Texts that differ in times and numbers only are the same finding."""
    return re.sub(r"\(.*? at [^)]*\)|[\dA-Fa-f]{6,}|\d+|\([0-9a-z]{20,}\)", "", text)


def _rows(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    listed = result.get(key)
    if not isinstance(listed, list):
        return []
    return [cast("dict[str, Any]", row) for row in cast("list[object]", listed) if isinstance(row, dict)]


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
