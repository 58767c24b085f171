"""Writes the reference pages that are made from the program itself: `python docs/reference/generate.py`.

A test compares them with what this would write, so that they cannot fall behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo

from hub.cli import entrepot
from hub.cli.console import EXIT_CODES
from hub.settings import Settings

FOLDER = Path(__file__).parent
WIDTH = 100
NOTE = "<!-- Made by docs/reference/generate.py; change the program and run it again. -->"


def cli() -> str:
    """The page of the command line: the help of every command."""
    pages = [
        "# The command line",
        NOTE,
        "Results go to stdout, progress and errors to stderr. Commands speak to the hub of `ENTREPOT_HOME` over a "
        "socket that only its user may open, and act as local administrator. An error names what to do next; with "
        '`--json` it is `{"error": {"message", "code", "owner", "hint"}}` on stderr.',
        "\n".join(
            ["| exit code | meaning |", "|---|---|", *(f"| {code} | {told} |" for code, told in EXIT_CODES.items())]
        ),
        'Completion: `eval "$(_ENTREPOT_COMPLETE=bash_source entrepot)"`; `zsh_source` and `fish_source` likewise.',
    ]
    for path, command, context in _commands(entrepot, "entrepot", None):
        pages += [f"{'#' * min(4, 1 + len(path.split()))} {path}", f"```text\n{_help(command, context)}\n```"]
    return "\n\n".join(pages) + "\n"


def settings() -> str:
    """The page of the static settings."""
    rows = [
        f"| `ENTREPOT_{name.upper()}` | `{name}` | {_default(field)} | {_words(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    pages = [
        "# Settings",
        NOTE,
        "What is fixed while the hub runs. Each is an environment variable, or a line in `entrepot.toml` inside "
        "`ENTREPOT_HOME` (all but `home` itself); the environment wins. Lists are written as JSON in the environment. "
        "Servers, keys, models and agents are no settings: they are changed while the hub runs, with "
        "[the command line](cli.md), the web pages or the admin API.",
        "\n".join(["| environment | entrepot.toml | default | meaning |", "|---|---|---|---|", *rows]),
        "Whatever a setting is, `entrepot doctor` says whether the hub can start with it.",
    ]
    return "\n\n".join(pages) + "\n"


def _commands(
    command: click.Command, path: str, parent: click.Context | None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command that is not hidden, with the context that its help is made in: at a fixed width, without colour."""
    context = click.Context(
        command,
        parent,
        path.rpartition(" ")[2],
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _commands(inner, f"{path} {name}", context)


def _help(command: click.Command, context: click.Context) -> str:
    """The help without the exit codes, which the page says once."""
    return command.get_help(context).partition("Exit codes:")[0].rstrip()


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, Path):
        return f"`{str(value).replace(str(Path.home()), '~', 1)}`"
    return f"`{json.dumps(value)}`" if value != "" else ""


def _words(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


PAGES = {"cli.md": cli, "settings.md": settings}


def main() -> None:
    """Write all pages."""
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
