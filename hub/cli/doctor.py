"""`entrepot doctor`: what is wrong and what to do. Asks the hub; where none runs, looks why it could not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from hub.cli.client import LONG_SECONDS, AdminClient, segment
from hub.cli.command import Command, json_option, read_settings
from hub.cli.console import NotRunning
from hub.cli.machine import Check, of_machine, of_start
from hub.cli.show import clean, counted, line, print_json

LOG_LINES = 8


@click.command(cls=Command, example="entrepot doctor time")
@click.argument("server", required=False)
@json_option
def doctor(server: str | None, as_json: bool) -> None:
    """Check the hub and this machine, or look into one server.

    Without a running hub it checks what starting one needs. Exit code 0: all is well; 1: something is not;
    3: the hub is not running.
    """
    settings = read_settings()
    try:
        client = AdminClient(settings)
        checks = _of_server(client, server) if server else [*_of_hub(client), *of_machine()]
        code = 0 if all(check.ok for check in checks) else 1
    except NotRunning as error:
        checks = [Check("hub", False, error.message, error.hint), *of_start(settings), *of_machine()]
        code = 3
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    click.get_current_context().exit(code)


def _of_hub(client: AdminClient) -> list[Check]:
    return [Check(row["name"], row["ok"], row["detail"], row["hint"]) for row in client.get("/doctor")["checks"]]


def _of_server(client: AdminClient, name: str) -> list[Check]:
    """What is known of one server, and what a fresh look finds."""
    before = client.get(f"/servers/{segment(name)}")
    found = client.post(f"/servers/{segment(name)}/refresh", seconds=LONG_SECONDS)
    ready = found["state"] == "ready"
    checks = [
        Check("registered", True, f"{before['kind']} {before['address']}"),
        Check(
            "answers",
            ready,
            f"{found['state']}: {found['reason']}" if found["reason"] else found["state"],
            "" if ready else "Repair the server, then: entrepot servers refresh " + name,
        ),
        Check(
            "definitions",
            not found["problems"],
            "; ".join(found["problems"]) or "all of them can be used",
            "" if not found["problems"] else "Tell the server's author; the rest of it is served.",
        ),
    ]
    return [*checks, *_of_child(client, name, found["kind"], ready)]


def _of_child(client: AdminClient, name: str, kind: str, ready: bool) -> list[Check]:
    rows: list[dict[str, Any]] = client.get("/replicas")["replicas"]
    child = next((row for row in rows if row["name"] == name), None)
    if child is None and kind not in ("stdio", "package"):
        return []
    if child is None:
        return [Check("process", False, "the runner does not know it", f"entrepot servers refresh {name}")]
    well = child["state"] in ("running", "idle", "starting")
    detail = f"{child['state']}, {len(child['pids'])} running, {counted(child['restarts'], 'restart')}"
    if well and ready:
        return [Check("process", True, detail)]
    said = client.get("/logs", source=f"child-{name}", limit=LOG_LINES)["lines"]
    tail = "".join(f"\n    | {line(entry['message'])}" for entry in said)
    detail += f"; it last said:{tail}" if tail else ""
    return [Check("process", well, detail, f"entrepot logs --source child-{name}")]


def _print(checks: Sequence[Check]) -> None:
    wide = max(len(check.name) for check in checks)
    for check in checks:
        click.echo(f"{'✓' if check.ok else '✗'} {check.name:<{wide}}  {clean(check.detail)}")
        if not check.ok and check.hint:
            click.echo(f"  {'':<{wide}}  Next: {clean(check.hint)}")
