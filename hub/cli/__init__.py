"""The `entrepot` command: one group of commands a file; results on stdout, progress and errors on stderr.

Commands are loaded when they are asked for, so that `entrepot tokens` does not wait for what only a server needs.
"""

from __future__ import annotations

import importlib
import sys

import click

from hub import __version__
from hub.cli.console import EXIT_CODES, exit_code, told
from hub.errors import HubError

EPILOG = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

COMMANDS = {
    "up": "hub.cli.running",
    "down": "hub.cli.running",
    "serve": "hub.cli.running",
    "migrate": "hub.cli.running",
}
"""Each command and the module that has it, under the same name with dashes as underscores."""


class Lazy(click.Group):
    """A group whose commands are imported at use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        module = COMMANDS.get(cmd_name)
        return None if module is None else getattr(importlib.import_module(module), cmd_name.replace("-", "_"))


@click.group(
    cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG
)
@click.version_option(__version__, prog_name="entrepot")
def entrepot() -> None:
    """One hub for a company's AI tools, models and agents."""


def main() -> None:
    """Run the command; turn our errors into a message and an exit code."""
    try:
        code = entrepot(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except HubError as error:
        click.echo(told(error), err=True)
        sys.exit(exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)
