"""`entrepot tokens` and `entrepot sign-in`: who may in."""

from __future__ import annotations

from typing import Any

import click

from hub.cli.client import AdminClient, segment
from hub.cli.command import Command, Duration, Group, hub, json_option
from hub.cli.show import moment, print_json, print_table
from hub.errors import Conflict, NotFound


@click.group(cls=Group)
def tokens() -> None:
    """Make, list and revoke keys."""


@tokens.command(
    example="""entrepot tokens create my-laptop
entrepot tokens create ci --scope call:github --scope models --expires 30d --quiet"""
)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="What it may: call, call:SERVER, call:SERVER/NAME, models, models:NAME, admin, admin:read. "
    "Without one: call and models.",
)
@click.option("--team", "teams", multiple=True, help="A team that it belongs to, for limits and canaries.")
@click.option("--expires", type=Duration(), help="After how long it ends: 30d, 12h, 90m. Without: never.")
@click.option("--quiet", is_flag=True, help="Print the token alone.")
@json_option
def create(
    name: str, scopes: tuple[str, ...], teams: tuple[str, ...], expires: int | None, quiet: bool, as_json: bool
) -> None:
    """Make a key. Its token is shown this once."""
    body: dict[str, Any] = {"name": name}
    if scopes:
        body["scopes"] = list(scopes)
    if teams:
        body["teams"] = list(teams)
    if expires is not None:
        body["expires_seconds"] = expires
    made = hub().post("/tokens", body)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    if not quiet:
        until = f" until {moment(made['expires'])} UTC" if made["expires"] else ""
        click.echo(f"{made['name']} ({made['id']}) may {', '.join(made['scopes'])}{until}.", err=True)
        click.echo("Keep it now: it is not shown again. `entrepot connect --key …` shows where it belongs.", err=True)


@tokens.command(name="list", example="entrepot tokens list --all")
@click.option("--all", "everything", is_flag=True, help="Revoked keys and those of runs too.")
@json_option
def list_tokens(everything: bool, as_json: bool) -> None:
    """Keys, without their secrets."""
    found = hub().get("/tokens")
    if as_json:
        print_json(found)
        return
    shown = [row for row in found["tokens"] if everything or not (row["revoked"] or row["kind"] == "run")]
    print_table(
        ("ID", "NAME", "PREFIX", "KIND", "SCOPES", "TEAMS", "EXPIRES", "LAST USED", "STATE"),
        [
            (
                row["id"],
                row["name"],
                row["prefix"],
                row["kind"],
                ",".join(row["scopes"]),
                ",".join(row["teams"]),
                moment(row["expires"]) or "never",
                moment(row["last_used"]) or "never",
                "revoked" if row["revoked"] else "active",
            )
            for row in shown
        ],
        "No keys. Make one: entrepot tokens create NAME",
    )


@tokens.command(example="entrepot tokens revoke my-laptop")
@click.argument("key", metavar="ID|NAME")
@json_option
def revoke(key: str, as_json: bool) -> None:
    """Revoke a key at once."""
    client = hub()
    identifier = _identifier(client, key)
    client.delete(f"/tokens/{segment(identifier)}")
    if as_json:
        print_json({"revoked": identifier})
    else:
        click.echo(f"{key} is revoked.", err=True)


@click.command("sign-in", cls=Command, example="entrepot sign-in")
@click.option("--subject", default="person:admin", show_default=True, help="Who signs in with it.")
@json_option
def sign_in(subject: str, as_json: bool) -> None:
    """Make a link that signs an administrator in on the web pages, once, within 15 minutes."""
    link = hub().post("/sign-in-links", {"subject": subject})
    if as_json:
        print_json(link)
        return
    click.echo(link["url"])
    click.echo(f"For one use, until {moment(link['expires'])} UTC.", err=True)


def _identifier(client: AdminClient, key: str) -> str:
    """The id that a name stands for among keys that still count; ids go first."""
    rows = client.get("/tokens")["tokens"]
    if any(row["id"] == key for row in rows):
        return key
    named = [row for row in rows if row["name"] == key and not row["revoked"]]
    if not named:
        raise NotFound(f"There is no key {key!r} that could be revoked", hint="`entrepot tokens list` shows all.")
    if len(named) > 1:
        ids = ", ".join(row["id"] for row in named)
        raise Conflict(f"{len(named)} keys are named {key!r}", hint=f"Name one by its id: {ids}")
    return named[0]["id"]
