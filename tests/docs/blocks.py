"""The fenced blocks and links of a Markdown file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")],
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, its language and its text."""

    page: Path
    language: str
    text: str

    @property
    def label(self) -> str:
        """For the test's name."""
        first = self.text.strip().splitlines()[0] if self.text.strip() else ""
        return f"{self.page.name}: {first[:50]}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page, of these languages or of all."""
    found = [Block(page, match[1], match[2]) for match in _FENCE.finditer(page.read_text(encoding="utf-8"))]
    return [block for block in found if not languages or block.language in languages]


def every(*languages: str) -> list[Block]:
    """The blocks of all pages that people write."""
    return [block for page in PAGES if page.parent.name != "reference" for block in blocks(page, *languages)]


def links(page: Path) -> list[str]:
    """The targets of its links, those in code left out."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors that its headings make."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(text)}
