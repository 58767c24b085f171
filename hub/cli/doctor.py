"""`entrepot doctor`: what is wrong and what to do. Asks the hub; where none runs, looks why it could not."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import click

from hub.cli.client import AdminClient, segment
from hub.cli.command import Command, Duration, Pair, json_option, read_settings
from hub.cli.console import Console, NotRunning
from hub.cli.machine import Check, of_machine, of_start
from hub.cli.show import clean, print_json

UNREGISTERED = "unregistered"
"""What a server that is only declared is called in the audit and by the runner."""

EXAMINE_SECONDS = 180.0
"""Between two steps of an examination; each is bounded by the hub, and far below this."""


@click.command(
    cls=Command,
    example="""entrepot doctor
entrepot doctor time
entrepot doctor https://docs.example.com/mcp --header 'Authorization: Bearer …'
entrepot doctor --stdio 'python -m my_server'""",
)
@click.argument("server", required=False, metavar="[SERVER | URL]")
@click.option("--header", multiple=True, type=Pair("NAME: VALUE", ":"), help="For a URL that is not registered.")
@click.option("--stdio", metavar="COMMAND", default="", help="Examine this command, which is not registered.")
@click.option("--env", multiple=True, type=Pair("NAME=VALUE", "="), help="For the command of --stdio.")
@click.option("--idle", type=Duration(), default="8s", show_default=True, help="How long to keep silent on a stream.")
@json_option
def doctor(
    server: str | None,
    header: Sequence[tuple[str, str]],
    stdio: str,
    env: Sequence[tuple[str, str]],
    idle: int,
    as_json: bool,
) -> None:
    """Check the hub and this machine, or find what is wrong with one server, by name.

    SERVER is registered, or a URL that is not yet. Without a running hub it checks what starting one needs. Proxies
    that cut silent streams after a minute are found with `--idle 90s`. Exit code 0: all is well; 1: something is not;
    3: the hub is not running.
    """
    settings = read_settings()
    client = AdminClient(settings)
    try:
        if server or stdio:
            rows = _examined(client, server or "", _declared(server, header, stdio, env), idle, as_json)
        else:
            rows = [*client.get("/doctor")["checks"], *map(asdict, of_machine())]
        code = 0 if all(row["ok"] for row in rows) else 1
    except NotRunning as error:
        checks = [Check("hub", False, error.message, error.hint), *of_start(settings), *of_machine()]
        rows, code = [asdict(check) for check in checks], 3
    if as_json:
        print_json({"checks": rows})
    elif code == 3 or not (server or stdio):
        _print(rows)
    click.get_current_context().exit(code)


def _declared(
    server: str | None, header: Sequence[tuple[str, str]], stdio: str, env: Sequence[tuple[str, str]]
) -> dict[str, Any] | None:
    """The declaration of a server that is not registered; None for one that is."""
    if stdio:
        if server:
            raise click.UsageError("Give a server or --stdio, not both.")
        return {"name": UNREGISTERED, "command": shlex.split(stdio), "env": dict(env)}
    if server and server.startswith(("http://", "https://")):
        return {"name": UNREGISTERED, "url": server, "headers": dict(header)}
    if header or env:
        raise click.UsageError("--header belongs to a URL and --env to --stdio; a registered server has its own.")
    return None


def _examined(
    client: AdminClient, server: str, body: dict[str, Any] | None, idle: int, as_json: bool
) -> list[dict[str, Any]]:
    """Every row of an examination, printed as it comes unless all are wanted as JSON."""
    path = "/doctor" if body is not None else f"/servers/{segment(server)}/doctor"
    told = client.lines(path, body or {}, seconds=EXAMINE_SECONDS + idle, idle=idle, stream=True)
    rows: list[dict[str, Any]] = []
    with Console().step(f"Examine {server or (body or {}).get('name', '')}") as step:
        for row in told:
            if "begun" in row:
                step.note(str(row["begun"]))
            else:
                rows.append(row)
        step.note("")
    if not as_json:
        _print(rows)
        found = [row for row in rows if "owner" in row]
        faults = sum(not row.get("advice") for row in found)
        click.echo(f"\n{_counted(faults, 'fault')}, {_counted(len(found) - faults, 'advice')}.")
    return rows


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 or word == 'advice' else 's'}"


def _print(rows: Iterable[dict[str, Any]]) -> None:
    every = list(rows)
    wide = max(len(row["name"]) for row in every)
    for row in every:
        mark = "!" if row.get("advice") else "✓" if row["ok"] else "✗"
        click.echo(f"{mark} {row['name']:<{wide}}  {_indented(row.get('means') or row['detail'], wide)}")
        if row.get("means"):
            click.echo(f"  {'':<{wide}}  Seen: {_indented(row['detail'], wide)}")
            click.echo(f"  {'':<{wide}}  Whose: {clean(row['owner'])}")
        if row["hint"] and (row.get("means") or not row["ok"]):
            click.echo(f"  {'':<{wide}}  Next: {_indented(row['hint'], wide)}")


def _indented(text: str, wide: int) -> str:
    return clean(text).replace("\n", "\n" + " " * (wide + 4))
