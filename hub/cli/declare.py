"""`entrepot apply` and `entrepot import`: many servers at once, from a file; what changes is shown first and last."""

from __future__ import annotations

import json
from typing import Any, BinaryIO, cast

import click

from hub.cli.client import LONG_SECONDS
from hub.cli.command import Command, hub, json_option
from hub.cli.console import Console
from hub.cli.show import line, print_json
from hub.errors import BadRequest

MARKS = {"create": "+", "update": "~", "none": "="}


@click.command(cls=Command, example="entrepot apply hub.yaml --dry-run")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@json_option
def apply(file: BinaryIO, dry_run: bool, as_json: bool) -> None:
    """Bring servers, collections and models into the form that FILE (YAML or JSON, - for stdin) declares.

    All of it or nothing. What the file does not name stays as it is; applying twice changes nothing more.
    """
    text = file.read()
    client = hub()
    with Console().step("Look at what is declared"):
        outcome = client.post_text("/apply", text, dry_run=dry_run)
    _print(outcome, dry_run, as_json)


@click.command("import", cls=Command, example="entrepot import ~/.cursor/mcp.json --dry-run")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@json_option
def take_over(file: BinaryIO, dry_run: bool, as_json: bool) -> None:
    """Take over the servers of an MCP client's configuration (Claude, Cursor, VS Code; - for stdin)."""
    try:
        config = json.loads(file.read())
    except ValueError as error:
        raise BadRequest(
            f"{file.name} is not JSON: {error}", hint="Comments and trailing commas must go first."
        ) from error
    client = hub()
    with Console().step("Look at its servers"):
        outcome = client.post("/import", config, seconds=LONG_SECONDS, dry_run=dry_run)
    _print(outcome, dry_run, as_json)


def _print(outcome: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(outcome)
        return
    changes = cast("list[dict[str, Any]]", outcome["changes"])
    for change in changes:
        click.echo(f"{MARKS[change['action']]} {change['kind']} {line(change['name'])}")
        for member, difference in change["diff"].items():
            click.echo(f"    {line(member)}: {_difference(difference)}")
    changing = sum(change["action"] != "none" for change in changes)
    if not changing:
        click.echo("Nothing to change.", err=True)
    elif dry_run:
        click.echo(f"Dry run: {changing} would change, nothing was.", err=True)
    else:
        click.echo(f"Applied: {changing} changed.", err=True)


def _difference(difference: Any) -> str:
    if isinstance(difference, dict) and set(cast("dict[str, Any]", difference)) == {"from", "to"}:
        pair = cast("dict[str, Any]", difference)
        return f"{_value(pair['from'])} → {_value(pair['to'])}"
    return _value(difference)


def _value(value: Any) -> str:
    if value in (None, "", [], {}):
        return "–"
    return line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
