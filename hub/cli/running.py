"""`up`, `down`, `migrate`, and the hidden `serve` that `up` starts."""

from __future__ import annotations

import os

import click

from hub.cli import up as upping
from hub.cli.command import Command, json_option, read_settings
from hub.cli.console import Console
from hub.cli.parts import load_parts
from hub.cli.show import print_json
from hub.settings import Settings


@click.command(cls=Command, example="entrepot up --bare --detach")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that serve HTTP (default 1).")
@click.option("--bare", is_flag=True, help="Without bundled servers, agents and models.")
@click.option("--open", "open_hub", is_flag=True, help="Let programs on this machine in without a token.")
@click.option("--detach", is_flag=True, help="Start in the background and return when ready.")
@click.option(
    "--first-light/--no-first-light", "tour", default=None, help="Show one real pass (default: the first time)."
)
@json_option
def up(workers: int | None, bare: bool, open_hub: bool, detach: bool, tour: bool | None, as_json: bool) -> None:
    """Start everything and keep it running. --json goes with --detach, which is what ends with a result."""
    if as_json and not detach:
        raise click.UsageError("--json goes with --detach.")
    for name, value in (("WORKERS", workers), ("BARE", bare or None), ("OPEN", open_hub or None)):
        if value is not None:
            # Every process of this installation reads the same settings.
            os.environ[f"ENTREPOT_{name}"] = str(value)
    settings, console = read_settings(), Console()
    if detach:
        upping.detach(settings, ["--no-first-light"], console)
        if as_json:
            print_json({"url": settings.url, "home": str(settings.home)})
        else:
            click.echo(settings.url)
        return
    upping.up(settings, console, tour=tour)


@click.command(cls=Command, example="entrepot down")
@json_option
def down(as_json: bool) -> None:
    """Stop what `up` started for this ENTREPOT_HOME."""
    stopped = upping.down(read_settings(), Console())
    if as_json:
        print_json({"stopped": stopped})
    elif not stopped:
        click.echo("Nothing is running.", err=True)


@click.command(hidden=True)
@click.option("--worker", type=int, default=0)
@click.option("--descriptor", type=int, default=None)
def serve(worker: int, descriptor: int | None) -> None:
    """One hub worker; `up` starts these."""
    from hub.cli import lean  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] - before anything loads httpx
    from hub.cli import worker as working  # noqa: PLC0415 - the whole hub, which only this command needs

    working.serve(Settings(), worker, descriptor)


@click.command(cls=Command, example="entrepot migrate")
@json_option
def migrate(as_json: bool) -> None:
    """Bring the database to this version; `up` does it by itself."""
    from hub.cli import tables  # noqa: PLC0415 - the database, which `up` and `down` do without

    tables.prepare_database(read_settings(), load_parts())
    if as_json:
        print_json({"migrated": True})
