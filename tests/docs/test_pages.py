"""What the README and the manual show works: commands parse, JSON and YAML fit, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import pytest
import yaml

from agents.manifest import parse
from hub.catalog.importers import from_client
from hub.catalog.manifest import declaration
from hub.cli import entrepot
from hub.cli.clients import configurations
from hub.cli.console import EXIT_CODES
from hub.inference.spec import models_from_apply
from hub.runner.sandbox.profiles import PROFILES
from hub.runner.weights import WEIGHTS
from hub.settings import Settings
from tests.docs.blocks import PAGES, ROOT, Block, anchors, blocks, every, links

README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WHEEL = f"dist/entrepot-{PROJECT['version']}-py3-none-any.whl"
CALLED_ELSEWHERE = ("git", "cd", "export", "python3", "pipx", "docker", "claude")
_INNER = re.compile(r"\$\((entrepot [^)]*)\)")


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell block, those inside `$(…)` included."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in [*line.split("&&"), *_INNER.findall(line)]:
            if words := shlex.split(part, comments=True):
                yield words


def parsed(words: list[str]) -> click.Context:
    """The command that `entrepot WORDS` would run, its arguments read and checked. Nothing runs."""
    command: click.Command = entrepot
    context = click.Context(entrepot, info_name="entrepot")
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r}"
        command, context = found, click.Context(found, context, info_name=name)
    return command.make_context(command.name, words, parent=context.parent)


@pytest.mark.parametrize("block", every("sh"), ids=lambda block: block.label)
def test_a_command_exists_with_these_arguments(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(block.text):
        if words[:2] == ["docker", "exec"]:
            words = words[3:]
        match words[0]:
            case "entrepot":
                # A file that is told to be written first is read from standard input here.
                parsed(["-" if word.endswith((".yaml", ".json")) else word for word in words[1:]])
            case "make":
                assert words[1] in targets
            case other:
                assert other in CALLED_ELSEWHERE


@pytest.mark.parametrize("block", every("json"), ids=lambda block: block.label)
def test_json_is_json(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


@pytest.mark.parametrize("block", every("yaml"), ids=lambda block: block.label)
def test_yaml_is_a_manifest_or_a_declaration(block: Block) -> None:
    read = cast("dict[str, Any]", yaml.safe_load(block.text))
    if "instructions" in read:
        assert parse(block.text).name == read["name"]
        return
    declared = declaration(read)
    models_from_apply(declared.models)


def test_every_block_says_its_language() -> None:
    assert {block.language for block in every()} <= {"sh", "json", "yaml", "mermaid", "python"}


@pytest.mark.parametrize("page", [README, README_ZH], ids=lambda page: page.name)
def test_clients_are_told_what_the_command_prints(page: Path) -> None:
    shown = {block.text.strip() for block in blocks(page, "json", "sh")}
    for name, _, text in configurations("http://127.0.0.1:4180"):
        assert text in shown, name


def test_what_a_client_holds_can_be_imported() -> None:
    (cursor,) = [text for name, _, text in configurations("http://127.0.0.1:4180") if name == "Cursor"]
    assert [server.name for server in from_client(json.loads(cursor)).servers] == ["entrepot"]


def test_both_readmes_show_the_same_blocks() -> None:
    ours = [block.text for block in blocks(README, "sh", "json")]
    theirs = [block.text for block in blocks(README_ZH, "sh", "json")]
    assert ours == theirs
    assert len(blocks(README, "mermaid")) == len(blocks(README_ZH, "mermaid")) == 1
    assert [link for link in links(README) if "README" not in link] == [
        link for link in links(README_ZH) if "README" not in link
    ]


def test_the_readme_names_this_version_and_this_place() -> None:
    text = README.read_text(encoding="utf-8")
    assert f"./{WHEEL}" in text
    assert f"git clone {PROJECT['urls']['Documentation'].removesuffix('#readme')}.git" in text
    for code, meaning in EXIT_CODES.items():
        assert f"`{code}` {meaning}" in text
        assert f"`{code}` " in README_ZH.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [README, README_ZH], ids=lambda page: page.name)
def test_continuous_integration_runs_the_test_command_of_the_readme(page: Path) -> None:
    assert ["make test"] in [block.text.strip().splitlines() for block in blocks(page, "sh")]
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_setting_that_is_named_exists() -> None:
    ours = {f"ENTREPOT_{name.upper()}" for name in Settings.model_fields}
    ours |= {"ENTREPOT_TEST_DATA", "ENTREPOT_TOKEN_FILE", "ENTREPOT_URL", "ENTREPOT_KEY"}
    named = {
        name
        for page in PAGES
        for name in re.findall(r"\bENTREPOT_[A-Z][A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
    }
    assert named <= ours


def test_the_weights_stand_in_the_manual() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for one in WEIGHTS.values():
        for word in (one.name, one.origin, one.licence, one.version, one.wheel_sha256, one.file_sha256):
            assert word in text


def test_the_sandboxs_bounds_stand_in_the_manual() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()]
    shown = {row[1].strip(" `"): [cell.strip() for cell in row[2:9]] for row in rows if len(row) == 11}
    for profile in PROFILES.values():
        bounds = profile.limits
        assert shown[profile.name] == [
            "the host's" if profile.network else "none",
            f"{bounds.memory_bytes // 2**20} MiB",
            f"{bounds.processes}",
            _bound(bounds.seconds),
            _bound(bounds.cpu_seconds),
            f"{bounds.disk_bytes // 2**20} MiB",
            f"{bounds.files}",
        ]


def _bound(seconds: float | None) -> str:
    return "no bound" if seconds is None else f"{seconds:g} s"
