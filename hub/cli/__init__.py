"""The `entrepot` command: one group of commands a file; results on stdout, progress and errors on stderr.

Commands are loaded when they are asked for, so that `entrepot tokens` does not wait for what only a server needs.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import click

from hub import __version__
from hub.cli.console import EXIT_CODES, exit_code, told
from hub.errors import HubError

EPILOG = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


@dataclass(frozen=True, slots=True)
class Row:
    """Where a command is, and what the list of commands says of it; nothing: it is not listed."""

    module: str
    attribute: str
    summary: str = ""


COMMANDS = {
    "up": Row("hub.cli.running", "up", "Start everything and keep it running."),
    "down": Row("hub.cli.running", "down", "Stop what `up` started for this ENTREPOT_HOME."),
    "status": Row("hub.cli.status", "status", "The hub in one look."),
    "doctor": Row("hub.cli.doctor", "doctor", "Check the hub and this machine, or look into one server."),
    "servers": Row("hub.cli.servers", "servers", "Add, list, show, refresh and remove servers."),
    "apply": Row("hub.cli.declare", "apply", "Bring servers, collections and models into a declared form."),
    "import": Row("hub.cli.declare", "take_over", "Take over the servers of an MCP client's configuration."),
    "limits": Row("hub.cli.limits", "limits", "Rates, quotas and calls at once: set, list and remove."),
    "tokens": Row("hub.cli.tokens", "tokens", "Make, list and revoke keys."),
    "connect": Row("hub.cli.connect", "connect", "Ready-to-paste configurations of MCP clients."),
    "sign-in": Row("hub.cli.tokens", "sign_in", "Make a one-time link to the web pages."),
    "tools": Row("hub.cli.tools", "tools", "Find tools by what they do."),
    "call": Row("hub.cli.calls", "call", "Call a tool and print its answer."),
    "ask": Row("hub.cli.calls", "ask", "Ask an agent and print its answer."),
    "agents": Row("hub.cli.agents", "agents", "List, show, add and remove agents."),
    "runs": Row("hub.cli.agents", "runs", "List, show and cancel runs of agents."),
    "models": Row("hub.cli.models", "models", "List, add, remove and probe models."),
    "audit": Row("hub.cli.audit", "audit", "Search the audit and verify that it is whole."),
    "logs": Row("hub.cli.status", "logs", "The last log lines of all processes."),
    "migrate": Row("hub.cli.running", "migrate", "Bring the database to this version."),
    "serve": Row("hub.cli.running", "serve"),
}
"""Each command, in the order of a new user's way. The list of commands is shown without importing any."""


class Lazy(click.Group):
    """A group whose commands are imported at use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        row = COMMANDS.get(cmd_name)
        return None if row is None else getattr(importlib.import_module(row.module), row.attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in COMMANDS.items() if row.summary])


@click.group(
    cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG
)
@click.version_option(__version__, prog_name="entrepot")
def entrepot() -> None:
    """One hub for a company's AI tools, models and agents."""


def main() -> None:
    """Run the command; turn our errors into a message and an exit code."""
    try:
        code = entrepot(prog_name="entrepot", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except HubError as error:
        click.echo(told(error), err=True)
        sys.exit(exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)
