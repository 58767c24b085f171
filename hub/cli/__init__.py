"""The `entrepot` command: one group of commands a file; results on stdout, progress and errors on stderr."""

from __future__ import annotations

import os
import sys

import click

from hub import __version__
from hub.cli import serve as serving
from hub.cli import up as upping
from hub.cli.console import Console, told
from hub.errors import HubError, NotFound, Unavailable
from hub.settings import Settings

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the hub is not running, 4 not allowed or not found, 5 the tool or agent answered an error."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG)
@click.version_option(__version__, prog_name="entrepot")
def entrepot() -> None:
    """One hub for a company's AI tools, models and agents."""


@entrepot.command()
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


@entrepot.command()
def down() -> None:
    """Stop what `up` started for this ENTREPOT_HOME."""
    if not upping.down(Settings(), Console()):
        click.echo("Nothing is running.", err=True)


@entrepot.command(hidden=True)
@click.option("--worker", type=int, default=0)
@click.option("--descriptor", type=int, default=None)
def serve(worker: int, descriptor: int | None) -> None:
    """One hub worker; `up` starts these."""
    serving.serve(Settings(), worker, descriptor)


@entrepot.command()
def migrate() -> None:
    """Bring the database to this version; `up` does it by itself."""
    upping.prepare_database(Settings(), serving.load_parts())


def main() -> None:
    """Run the command; turn our errors into a message and an exit code."""
    try:
        entrepot(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except HubError as error:
        click.echo(told(error), err=True)
        sys.exit(exit_code(error))


def exit_code(error: HubError) -> int:
    """The exit code that an error ends the command with."""
    if isinstance(error, NotRunning):
        return 3
    return 4 if isinstance(error, NotFound) or error.status in (401, 403, 404) else 1


class NotRunning(Unavailable):
    """No hub runs for this ENTREPOT_HOME."""
