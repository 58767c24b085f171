"""Writes `docs/eras.md`: the table in it is made of the matrix that the tests run."""

from __future__ import annotations

from pathlib import Path

from tests.eras.matrix import ENDPOINTS, FEATURES, TRANSPORTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "eras.md"

BEGIN, END = "<!-- made by: make docs -->\n", "<!-- end -->\n"


def table() -> str:
    """The matrix as Markdown."""
    head = "| | legacy client, legacy server | modern client, modern server | modern client, legacy server"
    lines = [f"{head} | legacy client, modern server |", "|---|---|---|---|---|"]
    lines += [f"| {one.title} | ✓ | ✓ | ✓ {one.up} | ✓ {one.down} |" for one in FEATURES.values()]
    tested = f"Each ✓ is {len(TRANSPORTS) * len(ENDPOINTS)} tests: over {' and '.join(TRANSPORTS)}, on a "
    return "\n".join(lines) + f"\n\n{tested}{', '.join(ENDPOINTS)} endpoint.\n"


def page() -> str:
    """The whole page, with the table as it is now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
