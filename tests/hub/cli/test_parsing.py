"""How commands are typed: what is understood, what is refused, and that every one explains itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hub.cli import COMMANDS, entrepot
from hub.cli.console import EXIT_CODES
from hub.cli.show import clean, clipped, length, table, width


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None and not inner.hidden:
            yield from leaves(inner, (*path, name))


@pytest.mark.parametrize("path", list(leaves(entrepot)), ids=" ".join)
def test_every_command_explains_itself_with_an_example_and_offers_json(path: tuple[str, ...]) -> None:
    told = CliRunner().invoke(entrepot, [*path, "--help"])
    assert told.exit_code == 0
    assert "--json" in told.output
    assert f"Example:\n  entrepot {' '.join(path)}" in told.output or "| entrepot " in told.output
    assert "Exit codes: 0 done" in told.output


def test_the_list_of_commands_says_what_each_says_itself() -> None:
    context = click.Context(entrepot)
    listed = CliRunner().invoke(entrepot, ["--help"]).output
    for name, row in COMMANDS.items():
        command = entrepot.get_command(context, name)
        assert command is not None
        assert command.name in (name, row.attribute)
        assert bool(row.summary) is not command.hidden
        assert row.summary in listed


def test_the_list_of_commands_names_all_exit_codes() -> None:
    told = " ".join(CliRunner().invoke(entrepot, ["--help"]).output.split())
    assert all(f"{code} {meaning}" in told for code, meaning in EXIT_CODES.items())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["servers", "add", "x"], "exactly one of"),
        (["servers", "add", "x", "http://a", "--package", "npm:b@1.0.0", "--openapi", "http://c"], "exactly one of"),
        (["servers", "add", "x", "http://a", "http://b"], "One URL, not 2"),
        (["servers", "add", "x", "http://a", "--stdio", "cat"], "exactly one of"),
        (["servers", "add", "x", "--stdio"], "needs a command"),
        (["servers", "add", "x", "http://a", "--header", "no colon"], "NAME: VALUE"),
        (["servers", "add", "x", "--env", "novalue", "--stdio", "cat"], "NAME=VALUE"),
        (["tokens", "create", "x", "--expires", "soon"], "30d"),
        (["tokens", "create", "x", "--expires", "0d"], "30d"),
        (["audit", "search", "--after", "yesterday"], "2h"),
        (["up", "--json"], "--detach"),
        (["connect", "emacs"], "cursor"),
    ],
)
def test_a_command_typed_wrongly_ends_with_two_and_says_how_it_is_typed(argv: list[str], words: str) -> None:
    told = CliRunner().invoke(entrepot, argv)
    assert told.exit_code == 2
    assert words in told.output


def test_a_setting_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTREPOT_PORT", "harbour")
    told = CliRunner().invoke(entrepot, ["status"])
    assert told.exit_code == 1
    assert "ENTREPOT_PORT" in told.stderr


def test_no_hub_ends_with_three_and_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENTREPOT_HOME", str(tmp_path))
    told = CliRunner().invoke(entrepot, ["tokens", "list"])
    assert told.exit_code == 3
    assert told.stdout == ""
    assert "entrepot up --detach" in told.stderr


def test_connecting_a_client_needs_no_hub_and_carries_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENTREPOT_HOME", str(tmp_path))
    monkeypatch.setenv("ENTREPOT_PORT", "4999")
    told = CliRunner().invoke(entrepot, ["connect", "claude-code", "--key", "ek_1"])
    assert told.stdout == (
        'claude mcp add --transport http entrepot http://127.0.0.1:4999/mcp --header "Authorization: Bearer ek_1"\n'
    )


def test_making_a_key_loads_neither_the_hub_nor_the_database() -> None:
    script = "import sys, hub.cli.tokens; print([m for m in ('hub.app', 'sqlalchemy', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_tables_stand_straight_with_wide_and_combining_letters() -> None:
    rows = table(("NAME", "STATE"), [("天气", "ready"), ("cafe\u0301", "down")]).splitlines()
    assert rows == ["NAME  STATE", "天气  ready", "cafe\u0301  down"]
    assert width("天气 ok") == 7
    assert clipped("天气预报", 5) == "天气…"


def test_what_servers_say_cannot_command_the_terminal() -> None:
    assert clean("a\x1b[2Jb\x9b1mc\u202ed\r\n\te") == "a[2Jb1mcd\n\te"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.2 s"), (61, "1 min 1 s"), (7_200, "2 h"), (90_000, "1 d 1 h")]
)
def test_lengths_of_time_are_short(seconds: float, words: str) -> None:
    assert length(seconds) == words
