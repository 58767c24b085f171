"""What may be declared, what is refused, and how a package becomes a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hub.catalog import importers, manifest, packages
from hub.catalog.manifest import ServerSpec
from hub.errors import InvalidParams, TooLarge, Unavailable


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "UPPER", "url": "http://x"},
        {"name": "x" * 41, "url": "http://x"},
        {"name": "-x", "url": "http://x"},
        {"name": "a/../b", "url": "http://x"},
        {"name": "x"},
        {"name": "x", "url": "http://x", "package": "npm:a@1.0.0"},
        {"name": "x", "url": "ftp://x"},
        {"name": "x", "url": "http://"},
        {"name": "x", "url": "http://x:99999"},
        {"name": "x", "url": "http://u:p@x"},
        {"name": "x", "url": "http://x/#f"},
        {"name": "x", "url": "http://x/a b"},
        {"name": "x", "command": []},
        {"name": "x", "command": ["a\0b"]},
        {"name": "x", "command": "rm -rf /"},
        {"name": "x", "package": "npm:a"},
        {"name": "x", "package": "npm:a@latest"},
        {"name": "x", "package": "npm:a@^1.0.0"},
        {"name": "x", "package": "npm:--flag@1.0.0"},
        {"name": "x", "package": "pypi:a"},
        {"name": "x", "package": "pypi:a>=1"},
        {"name": "x", "package": "pypi:a==1.0 ; rm"},
        {"name": "x", "package": "pypi:-a==1.0"},
        {"name": "x", "package": "docker:a@1.0.0"},
        {"name": "x", "url": "http://x", "args": ["y"]},
        {"name": "x", "url": "http://x", "env": {"A": "b"}},
        {"name": "x", "command": ["y"], "headers": {"A": "b"}},
        {"name": "x", "command": ["y"], "env": {"A B": "c"}},
        {"name": "x", "command": ["y"], "env": {"ENTREPOT_HOME": "/"}},
        {"name": "x", "command": ["y"], "env": {"A": {"env": "HOME"}}},
        {"name": "x", "url": "http://x", "headers": {"A": "b\r\nC: d"}},
        {"name": "x", "url": "http://x", "headers": {"Mcp-Session-Id": "1"}},
        {"name": "x", "url": "http://x", "headers": {"Host": "y"}},
        {"name": "x", "url": "http://x", "unknown": 1},
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServerSpec.model_validate(fields)


def test_values_are_taken_as_they_are_and_never_print() -> None:
    spec = ServerSpec.model_validate({"name": "x", "command": ["y"], "env": {"A": "${HOME}"}})
    assert spec.env["A"].get_secret_value() == "${HOME}"
    assert "HOME" not in repr(spec)


def test_yaml_and_json_are_read_within_bounds() -> None:
    assert manifest.parse(b"servers: []") == manifest.parse(b'{"servers": []}') == {"servers": []}
    for text in (b"a: &x 1\nb: *x", b"a: !!python/object/apply:os.system ['id']", b"a: [", b"\xff\xfe\x00"):
        with pytest.raises(InvalidParams):
            manifest.parse(text)
    for text in (b"x" * (2**20 + 1), b"[" * 40 + b"]" * 40, b"- " * 5000 + b"x"):
        with pytest.raises(TooLarge):
            manifest.parse(text)


def test_a_declaration_names_each_thing_once() -> None:
    server = {"name": "x", "url": "http://x"}
    with pytest.raises(InvalidParams, match="declared twice"):
        manifest.declaration({"servers": [server, server]})
    with pytest.raises(InvalidParams):
        manifest.declaration(["servers"])


def test_packages_become_pinned_commands_without_a_shell() -> None:
    def everything(program: str) -> str:
        return f"/bin/{program}"

    node = ServerSpec(name="x", package="npm:@scope/server-x@1.2.3", args=["--root", "/a b"])
    assert packages.command_for(node, Path("/p"), everything) == [
        "/bin/npx",
        "-y",
        "@scope/server-x@1.2.3",
        "--root",
        "/a b",
    ]
    python = ServerSpec(name="x", package="pypi:mcp-server-time[tz]==2025.9.25")
    command = packages.command_for(python, Path("/p"), everything)
    assert command[0] == "/bin/uv" and command[-3:] == ["--from", "mcp-server-time[tz]==2025.9.25", "mcp-server-time"]


def test_a_missing_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"Node\.js"):
        packages.command_for(ServerSpec(name="x", package="npm:a@1.2.3"), tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"mcpServers": {"Time Zone!": {"url": "http://t/mcp"}}}, ("time-zone", "http", "auto")),
        ({"servers": {"t": {"type": "sse", "url": "http://t/sse"}}}, ("t", "http", "legacy")),
        ({"mcp": {"servers": {"t": {"command": "uvx", "args": ["x==1"]}}}}, ("t", "stdio", "auto")),
    ],
)
def test_client_configurations_are_read(config: Any, expected: tuple[str, str, str]) -> None:
    spec = importers.from_client(config).servers[0]
    assert (spec.name, spec.kind, spec.era) == expected


@pytest.mark.parametrize(
    "config",
    [
        [],
        {},
        {"mcpServers": {"x": "y"}},
        {"mcpServers": {"x": {}}},
        {"mcpServers": {"!!!": {"url": "http://x"}}},
        {"mcpServers": {"a b": {"url": "http://x"}, "a-b": {"url": "http://y"}}},
        {"mcpServers": {"x": {"url": "http://${HOST}/"}}},
        {"mcpServers": {"x": {"command": "y", "args": ["${env:SECRET}"]}}},
    ],
)
def test_client_configurations_that_cannot_be_taken_are_refused_in_words(config: Any) -> None:
    with pytest.raises(InvalidParams):
        importers.from_client(config)
