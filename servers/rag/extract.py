"""From a file to readable blocks that know where they stand: headings path, page, and lines of the source.

Markdown, plain text, HTML and PDF. A block is a paragraph, list or table; nothing is guessed about layout beyond that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".txt": "text", ".html": "html", ".htm": "html", ".pdf": "pdf"}
MAX_BYTES = 50 * 1024 * 1024
"""Largest file that is read."""
MAX_PAGES = 2000
"""Pages of a PDF that are read."""
MAX_CHARACTERS = 5_000_000
"""Text of one document that is kept."""

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s{0,3}(```|~~~)")


@dataclass(frozen=True)
class Block:
    """A paragraph. Lines count from 1 in the source file (0: unknown); pages from 1 (0: has no pages)."""

    text: str
    headings: tuple[str, ...] = ()
    page: int = 0
    first_line: int = 0
    last_line: int = 0


@dataclass(frozen=True)
class Extracted:
    """A document's title, language (`en` or `zh`) and blocks in reading order."""

    title: str
    language: str
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """The whole text: blocks joined by blank lines, headings as Markdown."""
        parts: list[str] = []
        last: tuple[str, ...] = ()
        for block in self.blocks:
            if block.headings != last and block.headings:
                parts.append(f"{'#' * len(block.headings)} {block.headings[-1]}")
            last = block.headings
            parts.append(block.text)
        return "\n\n".join(parts)


class Unreadable(Exception):
    """The file cannot be read as what its name says; the text says why."""


def language_of(text: str) -> str:
    """`zh` where a tenth or more of the letters are Han characters, else `en`."""
    sample = text[:20_000]
    letters = sum(character.isalpha() for character in sample)
    return "zh" if letters and len(_CJK.findall(sample)) / letters >= 0.1 else "en"


def extract_file(path: Path, content: bytes) -> Extracted:
    """Read `content` by the suffix of `path`. Raises Unreadable."""
    kind = SUFFIXES[path.suffix.lower()]
    if kind == "pdf":
        title, blocks = _pdf(content)
    else:
        text = decode(content)
        if kind == "html":
            title, blocks = _html(text)
        else:
            title, blocks = ("", list(markdown_blocks(text))) if kind == "markdown" else ("", list(plain_blocks(text)))
    return _extracted(title, path.stem.replace("-", " ").replace("_", " "), blocks)


def extract_text(title: str, text: str) -> Extracted:
    """Read text given directly, as Markdown."""
    return _extracted(title, title, list(markdown_blocks(text[:MAX_CHARACTERS])))


def _extracted(title: str, fallback: str, blocks: list[Block]) -> Extracted:
    first = next((block.headings[0] for block in blocks if block.headings), "")
    return Extracted(title or first or fallback, language_of(" ".join(b.text for b in blocks[:200])), tuple(blocks))


def decode(content: bytes) -> str:
    """UTF-8 (with or without a mark), else UTF-16 by its mark, else GB 18030, the encoding of older Chinese files."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("gb18030", "replace")


def markdown_blocks(text: str) -> Iterator[Block]:
    """Paragraphs under their headings; fenced code stays in one piece."""
    headings: list[tuple[int, str]] = []
    lines: list[str] = []
    begun = 0
    fenced = False
    all_lines = text[:MAX_CHARACTERS].splitlines()
    if all_lines and all_lines[0].strip() == "---":
        # Front matter is about the file, not part of it.
        end = next((i for i, line in enumerate(all_lines[1:60], 1) if line.strip() == "---"), 0)
        all_lines[: end + 1] = [""] * (end + 1) if end else all_lines[:1]

    def block(last: int) -> Block:
        return Block("\n".join(lines).strip(), tuple(name for _, name in headings), 0, begun, last)

    for number, line in enumerate(all_lines, 1):
        if _FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _HEADING.match(line)
        if heading or (not line.strip() and not fenced):
            if lines:
                yield block(number - 1)
                lines = []
            if heading:
                level = len(heading[1])
                headings = [entry for entry in headings if entry[0] < level] + [(level, heading[2])]
            continue
        if not lines:
            begun = number
        lines.append(line)
    if lines:
        yield block(len(all_lines))


def plain_blocks(text: str) -> Iterator[Block]:
    """Paragraphs between blank lines; a short line underlined with = or - is a heading."""
    lines = text[:MAX_CHARACTERS].splitlines()
    marked: list[str] = []
    for number, line in enumerate(lines):
        below = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if line.strip() and len(line) < 120 and len(below) >= 3 and set(below) in ({"="}, {"-"}):
            marked.append(f"{'#' if below[0] == '=' else '##'} {line.strip()}")
        elif (
            marked and marked[-1].startswith("#") and number and len(line) >= 3 and set(line.strip()) in ({"="}, {"-"})
        ):
            marked.append("")
        else:
            marked.append(line.replace("#", "\uff03", 1) if line.startswith("#") else line)
    yield from markdown_blocks("\n".join(marked))


_SKIPPED = frozenset({"script", "style", "nav", "template", "noscript", "svg", "head"})
_BREAKS = frozenset(
    {"p", "div", "section", "article", "ul", "ol", "table", "pre", "blockquote", "header", "footer", "main", "dl"}
)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.blocks: list[Block] = []
        self._headings: list[tuple[int, str]] = []
        self._words: list[str] = []
        self._begun = 0
        self._skipped = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title" and not self.title
        self._skipped += tag in _SKIPPED
        if tag == "body":
            self._skipped = 0
        if tag in _BREAKS or _level(tag):
            self.flush()
        elif tag in ("li", "tr", "br", "dt"):
            self._words.append("\n- " if tag == "li" else "\n")
        elif tag in ("td", "th", "dd"):
            self._words.append(" | " if tag != "dd" else ": ")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag in _SKIPPED and self._skipped:
            self._skipped -= 1
        if level := _level(tag):
            text = " ".join("".join(self._words).split())
            self._words = []
            if text:
                self._headings = [entry for entry in self._headings if entry[0] < level] + [(level, text)]
        elif tag in _BREAKS:
            self.flush()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data.strip()
        elif not self._skipped:
            if data.strip() and not "".join(self._words).strip():
                self._begun = self.getpos()[0]
            self._words.append(re.sub(r"\s+", " ", data))

    def flush(self) -> None:
        lines = [" ".join(line.split()) for line in "".join(self._words).split("\n")]
        text = "\n".join(line for line in lines if line.strip(" -|"))
        self._words = []
        if text:
            names = tuple(name for _, name in self._headings)
            self.blocks.append(Block(text, names, 0, self._begun, self.getpos()[0]))


def _level(tag: str) -> int:
    return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else 0


def _html(text: str) -> tuple[str, list[Block]]:
    page = _Page()
    page.feed(text[:MAX_CHARACTERS])
    page.close()
    page.flush()
    return page.title, page.blocks


def _pdf(content: bytes) -> tuple[str, list[Block]]:
    from io import BytesIO  # noqa: PLC0415 - with the heavy optional package below

    from pypdf import PdfReader  # noqa: PLC0415 - slow to import, needed only where there are PDFs
    from pypdf.errors import PyPdfError  # noqa: PLC0415 - as above

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    blocks: list[Block] = []
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("the PDF is encrypted")
        for number, page in enumerate(reader.pages[:MAX_PAGES], 1):
            paragraphs = re.split(r"\n\s*\n", page.extract_text())
            blocks += [Block(text, (), number) for text in (p.strip() for p in paragraphs) if text]
        title = str((reader.metadata.title if reader.metadata else "") or "")
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        # pypdf meets malformed files with many kinds of exception.
        raise Unreadable(f"the PDF is damaged ({type(error).__name__})") from error
    return title, blocks
