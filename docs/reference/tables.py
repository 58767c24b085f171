"""Writes the reference pages that are lists in the program: `python docs/reference/tables.py`, or `make docs`.

Actions, events, metrics and errors are each one list in one module; a test compares the pages with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from hub.audit.events import EVENTS
from hub.errors import HubError
from hub.policy import actions
from hub.telemetry.metrics import Metrics

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by docs/reference/tables.py; change the program and run `make docs`. -->"
OWNERS = {
    "client": "whoever sent the request",
    "hub": "whoever runs the hub",
    "server": "whoever runs the server behind it",
    "administrator": "an administrator of the hub",
}


def actions_page() -> str:
    """What can be allowed, and the scopes that allow it."""
    rows = [f"| `{one.name}` | {one.description} | `{one.family}` |" for one in actions.ACTIONS]
    default = " and ".join(f"`{scope}`" for scope in sorted(actions.DEFAULT_SCOPES))
    return _page(
        "Actions and scopes",
        "Every decision is about one of these actions. A key carries scopes; a scope of the right family allows the "
        "action, on everything or on what it names.",
        _table("action", "meaning", "family of scopes", rows=rows),
        _table(
            "scope",
            "allows",
            rows=[
                "| `call` | everything behind MCP |",
                "| `call:SERVER` | everything of one server |",
                "| `call:SERVER/NAME` | one tool, prompt or resource of it |",
                "| `models` | all models |",
                "| `models:NAME` | one model |",
                "| `admin` | everything in the admin API |",
                "| `admin:read` | looking at everything in the admin API |",
            ],
        ),
        f"A key that is made without scopes has {default}. What a caller may not use does not show in its lists, and "
        "asking for it is answered as if it did not exist.",
    )


def events_page() -> str:
    """What is recorded."""
    rows = [f"| `{event.name}` | {_cell(inspect.getdoc(event) or '')} |" for event in EVENTS]
    return _page(
        "Audit events",
        "Every event that the audit knows. A record says who did it (and on whose behalf), when, to what, with which "
        "outcome, how long it took and in which trace. Arguments, results and secrets are never recorded.",
        _table("event", "meaning", rows=rows),
        "`entrepot audit search` searches the records, `entrepot audit verify` checks their chain of hashes.",
    )


def metrics_page() -> str:
    """What is counted."""
    metrics = Metrics(CollectorRegistry())
    found = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} "
        f"| {', '.join(f'`{label}`' for label in one._labelnames)} | {_cell(family.documentation)} |"  # pyright: ignore[reportPrivateUsage]
        for one in found
        for family in one.describe()
    ]
    return _page(
        "Metrics",
        "At `/metrics`, in the form that Prometheus reads, for callers with the scope `admin:read`. Labels are server "
        "names, outcomes and reasons, never tools, callers or addresses.",
        _table("metric", "kind", "labels", "meaning", rows=rows),
    )


def errors_page() -> str:
    """What can go wrong, and who must act."""
    rows = [
        f"| `{kind.code}` | {kind.rpc} | {kind.status} | {OWNERS[kind.owner]} | {_cell(inspect.getdoc(kind) or '')} |"
        for kind in sorted(set(_leaves(HubError)), key=lambda kind: (kind.status, kind.code))
    ]
    return _page(
        "Errors",
        "Every error has a stable `code` for programs and an `owner` who must act; most have a `hint`, the next step. "
        "In JSON-RPC they stand in the error's `data`; in REST in an RFC 9457 problem, with the trace that joins them "
        "to log and audit.",
        _table("code", "JSON-RPC", "HTTP", "who must act", "meaning", rows=rows),
    )


def _leaves(kind: type[HubError]) -> Iterator[type[HubError]]:
    """The class and all below it; one that shares its parent's code is the parent to a caller."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == HubError.__module__:
            yield from _leaves(below)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def _table(*heads: str, rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "actions.md": actions_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "errors.md": errors_page,
}


def main() -> None:
    """Write all pages."""
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
