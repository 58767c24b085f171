"""The pages that are made from lists in the program are current."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES = (
    "actions.md",
    "clients.md",
    "events.md",
    "metrics.md",
    "errors.md",
    "manifest.md",
    "weights.md",
    "../doctor.md",
    "../faults.md",
)


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script that makes them."""
    spec = importlib.util.spec_from_file_location("reference_tables", FOLDER / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_a_list_in_the_manual_is_current(page: str, tables: ModuleType) -> None:
    assert (FOLDER / page).read_text(encoding="utf-8") == tables.PAGES[page](), "run: make docs"


def test_the_list_of_pages_is_whole(tables: ModuleType) -> None:
    assert set(PAGES) == set(tables.PAGES)
