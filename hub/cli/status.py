"""`entrepot status` and `entrepot logs`: what runs, and what it says."""

from __future__ import annotations

import time
from typing import Any

import click

from hub.cli.command import Command, hub, json_option
from hub.cli.show import length, line, moment, print_fields, print_json

FOLLOW_SECONDS = 1.0
"""Between looks at the logs."""
MOST_LINES = 2_000
"""What the hub answers at most."""


@click.command(cls=Command, example="entrepot status --json")
@json_option
def status(as_json: bool) -> None:
    """The hub in one look."""
    found = hub().get("/status")
    if as_json:
        print_json(found)
        return
    servers = ", ".join(f"{count} {state}" for state, count in found["servers"].items() if count) or "none"
    print_fields(
        [
            ("url", f"{found['url']}/mcp"),
            ("version", found["version"]),
            ("running for", length(found["uptime"])),
            ("workers", found["workers"]),
            ("runner", found["runner"]),
            ("agents", found["agents"]),
            ("servers", servers),
        ]
    )


@click.command(cls=Command, example="entrepot logs --source child-time --follow")
@click.option("--source", default="", help="One log: hub-0, runner, agents, child-NAME.")
@click.option("--query", default="", help="Only lines that hold this text.")
@click.option("--limit", type=click.IntRange(1, MOST_LINES), default=50, show_default=True, help="Most lines.")
@click.option("--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@json_option
def logs(source: str, query: str, limit: int, follow: bool, as_json: bool) -> None:
    """The last log lines of all processes. With --follow, --json prints one object a line."""
    client = hub()
    found = client.get("/logs", source=source, query=query, limit=MOST_LINES if follow else limit)["lines"]
    if as_json and not follow:
        print_json({"lines": found})
        return
    fresh: list[dict[str, Any]] = found[-limit:]
    while True:
        for entry in fresh:
            _print(entry, as_json)
        if not follow:
            return
        seen = {_identity(entry) for entry in found}
        time.sleep(FOLLOW_SECONDS)
        found = client.get("/logs", source=source, query=query, limit=MOST_LINES)["lines"]
        fresh = [entry for entry in found if _identity(entry) not in seen]


def _identity(entry: dict[str, Any]) -> tuple[str, str, str]:
    return str(entry["at"]), str(entry["source"]), str(entry["message"])


def _print(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entry, indent=None)
        return
    click.echo(f"{moment(entry['at'])}  {entry['source']}  {entry['level']}  {line(entry['message'])}")
