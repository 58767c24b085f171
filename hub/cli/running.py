"""`up`, `down`, `migrate`, and the hidden `serve` that `up` starts."""

from __future__ import annotations

import os

import click

from hub.cli import up as upping
from hub.cli.console import Console
from hub.cli.parts import load_parts
from hub.settings import Settings


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that serve HTTP (default 1).")
@click.option("--bare", is_flag=True, help="Without bundled servers, agents and models.")
@click.option("--open", "open_hub", is_flag=True, help="Let programs on this machine in without a token.")
@click.option("--detach", is_flag=True, help="Start in the background and return when ready.")
@click.option(
    "--first-light/--no-first-light", "tour", default=None, help="Show one real pass (default: the first time)."
)
def up(workers: int | None, bare: bool, open_hub: bool, detach: bool, tour: bool | None) -> None:
    """Start everything and keep it running."""
    for name, value in (("WORKERS", workers), ("BARE", bare or None), ("OPEN", open_hub or None)):
        if value is not None:
            # Every process of this installation reads the same settings.
            os.environ[f"ENTREPOT_{name}"] = str(value)
    settings, console = Settings(), Console()
    if detach:
        upping.detach(settings, ["--no-first-light"], console)
        click.echo(settings.url)
        return
    upping.up(settings, console, tour=tour)


@click.command()
def down() -> None:
    """Stop what `up` started for this ENTREPOT_HOME."""
    if not upping.down(Settings(), Console()):
        click.echo("Nothing is running.", err=True)


@click.command(hidden=True)
@click.option("--worker", type=int, default=0)
@click.option("--descriptor", type=int, default=None)
def serve(worker: int, descriptor: int | None) -> None:
    """One hub worker; `up` starts these."""
    from hub.cli import worker as working  # noqa: PLC0415 - the whole hub, which only this command needs

    working.serve(Settings(), worker, descriptor)


@click.command()
def migrate() -> None:
    """Bring the database to this version; `up` does it by itself."""
    upping.prepare_database(Settings(), load_parts())
