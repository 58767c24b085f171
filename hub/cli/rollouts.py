"""`entrepot servers canary`, `promote`, `rollback` and `rollout`: a version tried out beside the one that is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from hub.cli.client import LONG_SECONDS, segment
from hub.cli.command import Command, Pair, hub, json_option
from hub.cli.console import Console
from hub.cli.show import moment, print_fields, print_json, print_table

OUTCOMES = {"promoted": "was promoted", "rolled-back": "was rolled back"}


@click.command(
    cls=Command,
    example="""entrepot servers canary search --url https://search-v2.example.com/mcp --share 10
entrepot servers canary search --package pypi:my-search==2.0.0 --group beta --client 'claude-*'
entrepot servers canary search --share 50""",
)
@click.argument("name")
@click.option("--url", help="Where the version is reached.")
@click.option("--replica", "replicas", multiple=True, metavar="URL", help="Another address of that version.")
@click.option("--package", metavar="REF", help="Or its package: npm:NAME@1.2.3 or pypi:NAME==1.2.3.")
@click.option("--command", "command", metavar="COMMAND", help="Or the command that starts it, in quotes.")
@click.option("--env", multiple=True, type=Pair("NAME=VALUE", "="), help="For its child, in place of the server's.")
@click.option("--version", default="", help="What it is called in figures; else what it says itself.")
@click.option("--share", type=click.FloatRange(0, 100), help="Per cent of all callers, always the same ones.")
@click.option("--group", "groups", multiple=True, help="A team that gets it (`entrepot tokens create --team`).")
@click.option("--client", "clients", multiple=True, help="Clients that get it, by name: 'claude-*'.")
@click.option("--header", "when", multiple=True, type=Pair("X-NAME=VALUE", "="), help="Requests with it get it.")
@click.option("--error-rate", type=click.FloatRange(0, 100), help="Rolled back above so many per cent; else 5.")
@click.option("--latency", type=click.FloatRange(1), help="Rolled back above so many times the other's p95; else 3.")
@click.option("--calls", type=click.IntRange(1), help="Calls before it is judged; else 50.")
@click.option("--window", type=click.IntRange(5, 3600), help="Seconds that are looked back; else 300.")
@json_option
def canary(name: str, as_json: bool, **told: Any) -> None:
    """Try a version of a server out on some callers, or give the one that is tried out to others.

    Everybody else keeps the server as it is. Past a bound the hub rolls the version back by itself.
    """
    path = f"/servers/{segment(name)}/rollout"
    body = _rules(told)
    way = {key: told[key] for key in ("url", "package") if told[key]}
    if told["command"]:
        way["command"] = told["command"].split()
    if not way:
        if not body:
            raise click.UsageError("Say how it is reached (--url, --package, --command) or who gets it.")
        _print(hub().patch(path, body), as_json)
        return
    beside = {"replicas": list(told["replicas"]), "env": dict(told["env"]), "version": told["version"]}
    body |= way | {key: value for key, value in beside.items() if value}
    with Console().step(f"Look at the version of {name}"):
        found = hub().post(path, body, seconds=LONG_SECONDS)
    _print(found, as_json)


@click.command(cls=Command, example="entrepot servers promote search")
@click.argument("name")
@json_option
def promote(name: str, as_json: bool) -> None:
    """Give the version that is tried out to everybody. The other ends once its calls are over."""
    _print(hub().post(f"/servers/{segment(name)}/rollout/promote", seconds=LONG_SECONDS), as_json)


@click.command(cls=Command, example="entrepot servers rollback search")
@click.argument("name")
@json_option
def rollback(name: str, as_json: bool) -> None:
    """Give the version that is tried out up. It ends once its calls are over."""
    _print(hub().post(f"/servers/{segment(name)}/rollout/rollback", seconds=LONG_SECONDS), as_json)


@click.command(cls=Command, example="entrepot servers rollout search")
@click.argument("name")
@json_option
def rollout(name: str, as_json: bool) -> None:
    """Both versions of a server side by side, and how the last roll-out ended."""
    _print(hub().get(f"/servers/{segment(name)}/rollout"), as_json)


def _rules(told: dict[str, Any]) -> dict[str, Any]:
    lists = {key: list(told[key]) for key in ("groups", "clients") if told[key]}
    body: dict[str, Any] = lists | ({"when": dict(told["when"])} if told["when"] else {})
    if told["share"] is not None:
        body["share"] = told["share"]
    names = ("error_rate", "latency", "calls", "window")
    bounds = {key: told[key] for key in names if told[key] is not None}
    return body | ({"bounds": bounds} if bounds else {})


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    sides = [("stable", found["stable"]), *([("canary", found["canary"])] if found["canary"] else [])]
    print_table(
        ("SIDE", "VERSION", "STATE", "CALLS", "FAILED", "P50", "P95", "ADDRESS"),
        [
            (name, side["version"] or side["place"], side["state"], *_figures(side["figures"]), side["address"])
            for name, side in sides
        ],
        "",
    )
    if found["rules"]:
        print_fields([("who gets the canary", _who(found["rules"])), ("since", moment(found["started"]))])
    last = found["last"]
    if last:
        click.echo(
            f"{last['version'] or last['address']} {OUTCOMES[last['outcome']]} at {moment(last['at'])} UTC"
            + (f": {last['reason']}" if last["reason"] else "")
        )


def _figures(figures: dict[str, Any]) -> Sequence[object]:
    if not figures["calls"]:
        return (0, "–", "–", "–")
    return (
        figures["calls"],
        f"{figures['error_rate']:g} %",
        f"{figures['p50'] * 1000:.1f} ms",
        f"{figures['p95'] * 1000:.1f} ms",
    )


def _who(rules: dict[str, Any]) -> str:
    parts = [f"{rules['share']:g} % of all callers"] if rules["share"] else []
    parts += [f"team {team}" for team in rules["groups"]] + [f"client {client}" for client in rules["clients"]]
    parts += [f"{header}: {value}" for header, value in rules["when"].items()]
    return ", ".join(parts) or "nobody yet"
