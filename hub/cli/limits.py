"""`entrepot limits`: how often, how much in a period and how many at once."""

from __future__ import annotations

from typing import Any

import click

from hub.cli.client import segment
from hub.cli.command import Command, Group, hub, json_option
from hub.cli.show import print_json, print_table

SELECTORS = ("principal", "team", "server", "tool")


@click.group(cls=Group)
def limits() -> None:
    """Rates, quotas and calls at once: set, list and remove."""


@limits.command(
    name="set",
    cls=Command,
    example="""entrepot limits set every-key --principal '*' --rate 10/second --burst 20
entrepot limits set research --team research --quota 20000/day --contact 'platform@example.com'
entrepot limits set search-at-once --server search --tool 'deep-*' --concurrent 4""",
)
@click.argument("name")
@click.option("--principal", default="", help="A key by subject or name; '*': each by itself.")
@click.option("--team", default="", help="A team; '*': each by itself.")
@click.option("--server", default="", help="A server; '*': each by itself.")
@click.option("--tool", default="", help="A tool by its server's own name; '*': each by itself.")
@click.option("--rate", default="", help="10/second, 600/minute, …: refilled all the time.")
@click.option("--burst", type=click.IntRange(1), help="Calls at once under the rate. Without: those of one second.")
@click.option("--quota", default="", help="1000/day, or of a minute, hour or month: counted anew in each (UTC).")
@click.option("--concurrent", type=click.IntRange(1), help="Calls under way at the same time.")
@click.option("--contact", default="", help="Who can raise it, as those who are refused are told.")
@json_option
def put(name: str, as_json: bool, **told: Any) -> None:
    """Make a limit, or replace one; what was counted under its name stays counted.

    A selector that is left away does not matter. A name or a pattern counts all that it matches together.
    """
    body = {field: value for field, value in told.items() if value not in ("", None)}
    _print([hub().put(f"/limits/{segment(name)}", body)], as_json)


@limits.command(name="list", cls=Command, example="entrepot limits list")
@json_option
def list_limits(as_json: bool) -> None:
    """All limits, and who used most of each."""
    found = hub().get("/limits")
    if as_json:
        print_json(found)
        return
    _print(found["limits"], as_json=False)


@limits.command(cls=Command, example="entrepot limits remove every-key")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget a limit."""
    hub().delete(f"/limits/{segment(name)}")
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"{name} is removed.", err=True)


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found[0])
        return
    print_table(
        ("NAME", "ON", "RATE", "BURST", "QUOTA", "AT ONCE", "USED MOST BY"),
        [
            (
                limit["name"],
                ", ".join(f"{name} {limit[name]}" for name in SELECTORS if limit[name]) or "everybody together",
                limit["rate"] or "–",
                limit["burst"] or "–",
                limit["quota"] or "–",
                limit["concurrent"] or "–",
                "; ".join(f"{use['whose'] or 'all'}: {use['used']:g} ({use['kind']})" for use in limit["usage"][:3]),
            )
            for limit in found
        ],
        "No limits. Make one: entrepot limits set NAME --principal '*' --rate 10/second",
    )
