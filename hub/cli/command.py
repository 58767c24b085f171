"""What every command has: `--json`, an example, settings read with a word on what is wrong, errors with a next step.

Exit codes are those of `hub.cli.console.EXIT_CODES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic_settings import SettingsError

from hub.cli.client import AdminClient
from hub.cli.console import EXIT_CODES, exit_code, told
from hub.errors import BadRequest, HubError
from hub.settings import Settings

EPILOG = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose errors are told on stderr, as JSON when `--json` was asked for. `example` ends its help."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example as it would be typed, then the exit codes."""
        if self.example:
            with formatter.section("Example"):
                for row in self.example.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{row}\n")
        formatter.write_paragraph()
        formatter.write_text(EPILOG)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; an error of ours ends it with its exit code."""
        try:
            return super().invoke(ctx)
        except HubError as error:
            if ctx.params.get("as_json"):
                click.echo(json.dumps({"error": {"message": error.message, **error.envelope()}}), err=True)
            else:
                click.echo(told(error), err=True)
            ctx.exit(exit_code(error))


class Group(click.Group):
    """Commands of one noun."""

    command_class = Command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Where the rest stands."""
        formatter.write_paragraph()
        formatter.write_text(f"Each has --help with an example, and --json. {EPILOG}")


def json_option(function: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def read_settings() -> Settings:
    """The settings in force. Raises `BadRequest` that names the one that does not fit."""
    try:
        return Settings()
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(step) for step in fault["loc"])
        raise BadRequest(
            f"The setting {name} does not fit: {fault['msg']}",
            hint=f"Correct ENTREPOT_{name.upper()}, or {name} in entrepot.toml.",
        ) from error
    except SettingsError as error:
        raise BadRequest(
            f"The settings cannot be read: {error}", hint="Lists are written as JSON: '[\"a\"]'."
        ) from error


def hub() -> AdminClient:
    """The hub of the settings in force."""
    return AdminClient(read_settings())


class Duration(click.ParamType[int]):
    """A length of time such as `30d`, `12h` or `90m`, as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds."""
        if isinstance(value, int):
            return value
        number, unit = str(value)[:-1], str(value)[-1:]
        if unit not in _UNITS or not number.isdecimal() or int(number) == 0:
            self.fail(f"{value!r} is no length of time; write 30d, 12h, 90m or 45s", param, ctx)
        return int(number) * _UNITS[unit]


class Pair(click.ParamType[tuple[str, str]]):
    """`NAME<separator>VALUE`, as a tuple."""

    def __init__(self, name: str, separator: str) -> None:
        self.name = name
        self._separator = separator

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Name and value."""
        if isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType] - already converted
        name, separator, text = str(value).partition(self._separator)
        if not separator or not name.strip():
            self.fail(f"write it as {self.name}", param, ctx)
        return name.strip(), text.strip() if self._separator == ":" else text
