"""`entrepot connect`: what to paste into an MCP client."""

from __future__ import annotations

import click

from hub.catalog.profiles import Profile, of_client
from hub.cli.clients import configurations
from hub.cli.command import Command, json_option, read_settings
from hub.cli.show import print_json

CLIENTS = [name.lower().replace(" ", "-") for name, _, _ in configurations("")]


@click.command(cls=Command, example='entrepot connect cursor --key "$(entrepot tokens create cursor --quiet)"')
@click.argument("client", type=click.Choice(CLIENTS), required=False)
@click.option("--key", default="", help="The token to put in; else YOUR_KEY stands in its place.")
@json_option
def connect(client: str | None, key: str, as_json: bool) -> None:
    """Ready-to-paste configurations of MCP clients: one, or all."""
    settings = read_settings()
    told = configurations(settings.url, key or "YOUR_KEY", open_hub=settings.open and not key)
    chosen = [one for slug, one in zip(CLIENTS, told, strict=True) if client in (None, slug)]
    if as_json:
        print_json({"clients": [{"name": name, "where": where, "text": text} for name, where, text in chosen]})
        return
    for number, (name, where, text) in enumerate(chosen):
        if number:
            click.echo()
        click.echo(f"{name} · {where}", err=client is not None)
        click.echo(text)
        about = told_of(of_client(name))
        if about:
            click.echo(about, err=True)


def told_of(profile: Profile) -> str:
    """What somebody who connects this client should know of it."""
    parts: list[str] = []
    if profile.most_tools:
        parts.append(f"It takes {profile.most_tools} tools; where there are more, it is given tools to find them.")
    if "list-changed" in profile.gaps:
        parts.append("It reads the list of tools once: connect it again to see new ones.")
    return " ".join(parts)
