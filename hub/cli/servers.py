"""`entrepot servers`: what stands behind the hub."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from hub.cli.client import LONG_SECONDS, segment
from hub.cli.command import Command, Group, Pair, hub, json_option
from hub.cli.console import Console
from hub.cli.rollouts import canary, promote, rollback, rollout
from hub.cli.show import counted, line, moment, print_fields, print_json, print_table
from hub.errors import HubError

MOST_EXPOSED = 40
"""Exposed names that are listed before the rest is only counted."""

PASSIVE = frozenset({"failures", "pause", "longest_pause"})
"""What `--health` says of calls; the rest is of checks."""

LAST_WORDS = 8
"""Lines of a failed server's log that are shown with the failure."""


class AddCommand(Command):
    """Leaves all that follows `--stdio` to the server: options of its command are not ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split at `--stdio`, parse what stands before it."""
        command: list[str] = []
        if "--stdio" in args:
            place = args.index("--stdio")
            command, args = args[place + 1 :], args[:place]
            if command[:1] == ["--"]:
                command = command[1:]
            if not command and not {"-h", "--help"} & set(args):
                raise click.UsageError("--stdio needs a command after it", ctx)
        left = super().parse_args(ctx, args)
        ctx.params["stdio"] = command
        return left


@click.group(cls=Group)
def servers() -> None:
    """Add, list, show, refresh and remove servers."""


@servers.command(
    cls=AddCommand,
    example="""entrepot servers add time --package pypi:mcp-server-time==2026.10.20
entrepot servers add docs https://docs.example.com/mcp --header 'Authorization: Bearer …'
entrepot servers add files --env ROOT=/data --stdio python -m my_server --flag""",
)
@click.argument("name")
@click.argument("rest", nargs=-1, metavar="[URL | ARGUMENTS OF THE PACKAGE…]")
@click.option("--stdio", metavar="COMMAND…", help="Start this command; all that follows belongs to it.")
@click.option("--package", metavar="REF", help="Start a package: npm:NAME@1.2.3 or pypi:NAME==1.2.3.")
@click.option("--openapi", metavar="URL", help="Offer the operations of an OpenAPI description.")
@click.option("--base-url", metavar="URL", help="Where that API is, if not at the origin of its description.")
@click.option(
    "--era", type=click.Choice(["auto", "modern", "legacy"]), default="auto", show_default=True, help="What it speaks."
)
@click.option("--env", multiple=True, type=Pair("NAME=VALUE", "="), help="For the child; kept sealed.")
@click.option("--header", multiple=True, type=Pair("NAME: VALUE", ":"), help="For the URL; kept sealed.")
@click.option(
    "--with", "requirements", multiple=True, metavar="REQUIREMENT", help="Install a pypi: package with this: 'mcp<2'."
)
@click.option("--read", multiple=True, metavar="FOLDER", help="Show this folder to its sandbox.")
@click.option("--write", multiple=True, metavar="FOLDER", help="Show this folder to its sandbox, to write in.")
@click.option("--chown", is_flag=True, help="Let --write folders change owner, with all in them (a hub of root's).")
@click.option(
    "--deadline",
    multiple=True,
    type=Pair("NAME=SECONDS", "="),
    help="connect, list, call, idle or total; what is not given is as in the settings.",
)
@click.option(
    "--concurrency",
    multiple=True,
    type=Pair("NAME=NUMBER", "="),
    help="calls at once per worker, places in the queue, or seconds of wait in it.",
)
@click.option(
    "--health",
    multiple=True,
    type=Pair("NAME=NUMBER", "="),
    help="interval, timeout, passes, fails of checks; failures, pause, longest_pause of calls.",
)
@click.option("--replica", "replicas", multiple=True, metavar="URL", help="Another address of the same server.")
@click.option("--version", default="", help="What its version is called; else what it says itself.")
@click.option("--title", default="", help="What people are shown.")
@click.option("--description", default="", help="What it is for.")
@click.option(
    "--sandbox",
    type=click.Choice(["server", "trusted"]),
    default="server",
    show_default=True,
    help="How a child is held; `trusted` sees this machine as the hub does.",
)
@click.option(
    "--isolation",
    type=click.Choice(["shared", "per-principal"]),
    default="shared",
    show_default=True,
    help="One child for all callers, or one for each.",
)
@click.option(
    "--no-check-arguments", "unchecked", is_flag=True, help="Let it have arguments that its tools' schemas forbid."
)
@click.option("--dry-run", is_flag=True, help="Probe it and show what callers would see; keep nothing.")
@json_option
def add(
    name: str,
    rest: tuple[str, ...],
    stdio: Sequence[str],
    package: str | None,
    openapi: str | None,
    dry_run: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Probe a server, register it and show what callers will see.

    Give one of: a URL, --package, --openapi, or --stdio with the command that speaks MCP on its standard streams.
    """
    body = _declared(name, rest, stdio, package, openapi) | _told(told)
    client = hub()
    with Console().step(f"Look at {name}") as step, _explained(body, as_json):
        server = client.post("/servers", body, seconds=LONG_SECONDS, dry_run=dry_run)
        step.note(f"{server['state']}, {_counted(server['counts'])}")
    _print(server, as_json)
    if dry_run and not as_json:
        click.echo("Dry run: nothing was kept.", err=True)


@servers.command(name="list", example="entrepot servers list")
@json_option
def list_servers(as_json: bool) -> None:
    """All servers and their state."""
    found = hub().get("/servers")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "STATE", "KIND", "ERAS", "OFFERS", "ADDRESS"),
        [
            (row["name"], row["state"], row["kind"], ",".join(row["eras"]), _counted(row["counts"]), row["address"])
            for row in found["servers"]
        ],
        "No servers yet. Add one: entrepot servers add NAME URL",
    )
    for row in found["servers"]:
        if row["state"] in ("down", "degraded") and row["reason"]:
            click.echo(f"{row['name']}: {line(row['reason'])}", err=True)


@servers.command(example="entrepot servers show time")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """One server: its state and why, and what callers see of it."""
    _print(hub().get(f"/servers/{segment(name)}"), as_json)


@servers.command(example="entrepot servers refresh time")
@click.argument("name")
@json_option
def refresh(name: str, as_json: bool) -> None:
    """Look at a server again now."""
    client = hub()
    with Console().step(f"Look at {name}"):
        server = client.post(f"/servers/{segment(name)}/refresh", seconds=LONG_SECONDS)
    _print(server, as_json)


@servers.command(example="entrepot servers remove time")
@click.argument("name")
@click.option("--release-names", is_flag=True, help="Let other servers take the names it was exposed under.")
@json_option
def remove(name: str, release_names: bool, as_json: bool) -> None:
    """Forget a server and stop what runs for it."""
    hub().delete(f"/servers/{segment(name)}", release_names=release_names)
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"{name} is removed.", err=True)


for one in (canary, promote, rollback, rollout):
    servers.add_command(one)


@contextmanager
def _explained(body: dict[str, Any], as_json: bool) -> Generator[None]:
    """Where a child could not be used, its last words: most often the reason. With --json they are `stderr`."""
    try:
        yield
    except HubError as error:
        if error.status < 500:
            raise
        if not as_json:
            said = [one for one in str(error.extra.get("stderr", "")).splitlines() if one.strip()][-LAST_WORDS:]
            error.message += "".join(f"\n  | {line(one)}" for one in said)
        if hidden := _hidden_files(body):
            error.hint = f"The sandbox hides {hidden[0]} from it: --sandbox trusted shows the files of this machine."
        raise


def _hidden_files(body: dict[str, Any]) -> list[str]:
    """Files here that the command names and its sandbox does not show, the program itself aside."""
    if body.get("sandbox") == "trusted":
        return []
    arguments: list[str] = body.get("command", [])[1:]
    return [argument for argument in arguments if os.path.isfile(argument)]


def _declared(
    name: str, rest: Sequence[str], stdio: Sequence[str], package: str | None, openapi: str | None
) -> dict[str, Any]:
    ways = [bool(stdio), package is not None, openapi is not None, bool(rest) and package is None]
    if sum(ways) != 1:
        raise click.UsageError("Give exactly one of: a URL, --stdio COMMAND…, --package REF, --openapi URL.")
    if stdio:
        return {"name": name, "command": list(stdio)}
    if package is not None:
        return {"name": name, "package": package, "args": list(rest)}
    if openapi is not None:
        return {"name": name, "openapi": openapi}
    if len(rest) > 1:
        raise click.UsageError(f"One URL, not {len(rest)}; a command is given with --stdio.")
    return {"name": name, "url": rest[0]}


def _told(told: dict[str, Any]) -> dict[str, Any]:
    read, write = told.pop("read"), told.pop("write")
    right = "own" if told.pop("chown") else "write"
    told["folders"] = {os.path.abspath(path): "read" for path in read} | {
        os.path.abspath(path): right for path in write
    }
    told["replicas"] = list(told["replicas"])
    told["env"], told["headers"] = dict(told["env"]), dict(told.pop("header"))
    told["deadlines"] = _numbers(told.pop("deadline"))
    told["concurrency"] = _numbers(told["concurrency"])
    health = _numbers(told["health"])
    passive = {name: value for name, value in health.items() if name in PASSIVE}
    active = {name: value for name, value in health.items() if name not in PASSIVE}
    told["health"] = {name: group for name, group in (("active", active), ("passive", passive)) if group}
    exempt = {"check_arguments": False} if told.pop("unchecked") else {}
    return {name: value for name, value in told.items() if value} | exempt


def _numbers(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in pairs}
    except ValueError as error:
        raise click.UsageError(f"A number is wanted: {error}") from error


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(counted(count, kind) for kind, count in counts.items() if count) or "nothing"


def _spelt(group: dict[str, float] | None, unit: str = "") -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}{unit}" for name, value in (group or {}).items())


def _vital(one: dict[str, Any]) -> str:
    """How it does towards one worker, in a line."""
    told = [f"breaker {one['breaker']}"]
    if one["breaker"] == "open" and one["retry_after"]:
        told.append(f"next try in {one['retry_after']:.0f} s")
    if one["failures"]:
        told.append(f"{counted(one['failures'], 'failure')} in a row")
    told.append(f"{counted(one['running'], 'call')} under way")
    if one["queued"]:
        told.append(f"{one['queued']} waiting")
    if one["refused"]:
        told.append(f"{one['refused']} refused")
    check = one.get("check")
    if check is not None:
        told.append("checks pass" if check["healthy"] and not check["reason"] else f"checks: {line(check['reason'])}")
    said = f"worker {one['worker']}: {', '.join(told)}"
    return f"{said}\n  {line(one['reason'])}" if one["reason"] else said


def _print(server: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(server)
        return
    vitals: list[dict[str, Any]] = server.get("vitals") or []
    fields = ("name", "title", "description", "kind", "address", "version", "state", "reason", "isolation", "sandbox")
    print_fields(
        [
            *((name, server.get(name, "")) for name in fields),
            ("replicas", "\n".join(server.get("replicas", []))),
            ("eras", ", ".join(server["eras"])),
            ("arguments", "checked" if server.get("check_arguments", True) else "not checked"),
            ("tried out", server.get("canary") and f"see entrepot servers rollout {server['name']}"),
            ("offers", _counted(server["counts"])),
            ("secrets", ", ".join(server.get("secrets", []))),
            ("deadlines", _spelt(server.get("deadlines"), " s")),
            ("concurrency", _spelt(server.get("concurrency"))),
            *((f"{kind} health", _spelt(terms)) for kind, terms in server.get("health", {}).items()),
            ("now", "\n".join(_vital(one) for one in vitals)),
            ("looked at", moment(server.get("discovered"))),
            ("problems", "\n".join(server.get("problems", []))),
        ]
    )
    exposed: list[dict[str, str]] = server.get("exposed") or []
    if not exposed:
        return
    click.echo()
    rows = [(one["kind"], one["exposed"], "" if one["name"] == one["exposed"] else one["name"]) for one in exposed]
    if any(own for _, _, own in rows):
        print_table(("KIND", "CALLERS SEE", "THE SERVER SAYS"), rows[:MOST_EXPOSED], "")
    else:
        print_table(("KIND", "CALLERS SEE"), [row[:2] for row in rows[:MOST_EXPOSED]], "")
    if len(rows) > MOST_EXPOSED:
        click.echo(f"… and {len(rows) - MOST_EXPOSED} more (--json shows all)")
