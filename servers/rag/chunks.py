"""From blocks to chunks: about 170 English tokens or 200 Chinese characters, never across a heading, with overlap.

A chunk carries its headings path, which is embedded and indexed with it: a paragraph rarely repeats its subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from servers.rag.extract import Block

TARGET = 170.0
"""Weight of a full chunk, in English tokens."""
OVERLAP = 30.0
"""Weight of the sentences repeated from the chunk before, within one section."""

_WORD = re.compile(r"[A-Za-z0-9_\u00c0-\u024f]+")
_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_SENTENCE = re.compile(r"(?<=[。！？；])|(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Chunk:
    """A passage to retrieve and cite. Page and lines as in Block."""

    text: str
    headings: tuple[str, ...]
    page: int
    first_line: int
    last_line: int

    def with_context(self, title: str) -> str:
        """The text as it is embedded: title and headings first."""
        path = [title, *(name for name in self.headings if name != title)]
        return f"{' > '.join(part for part in path if part)}\n{self.text}"


@dataclass(frozen=True)
class _Piece:
    text: str
    block: Block

    @property
    def weight(self) -> float:
        return weight(self.text)


def weight(text: str) -> float:
    """About how many tokens `text` is: 1.3 a word, 0.85 a Han character."""
    return 1.3 * len(_WORD.findall(text)) + 0.85 * len(_CJK.findall(text))


def chunks_of(blocks: Iterable[Block]) -> list[Chunk]:
    """Group pieces of blocks into chunks; a new heading or page begins a new chunk."""
    done: list[Chunk] = []
    held: list[_Piece] = []
    fresh = 0
    for piece in (piece for block in blocks for piece in _pieces(block)):
        moved = held and (piece.block.headings, piece.block.page) != (held[0].block.headings, held[0].block.page)
        full = held and sum(p.weight for p in held) + piece.weight > TARGET
        if moved or full:
            if fresh:
                done.append(_chunk(held))
            held = [] if moved else _tail(held)
            fresh = 0
        held.append(piece)
        fresh += 1
    if held and fresh:
        done.append(_chunk(held))
    return done


def _pieces(block: Block) -> list[_Piece]:
    if weight(block.text) <= TARGET:
        return [_Piece(block.text, block)]
    pieces: list[_Piece] = []
    for sentence in (part.strip() for part in _SENTENCE.split(block.text)):
        # A "sentence" without an end (tables, logs, base64) is cut by characters.
        size = 1200 if not _CJK.search(sentence) else 400
        pieces += [_Piece(sentence[at : at + size], block) for at in range(0, len(sentence), size)]
    return pieces


def _tail(held: list[_Piece]) -> list[_Piece]:
    kept: list[_Piece] = []
    for piece in reversed(held):
        if sum(p.weight for p in kept) + piece.weight > OVERLAP:
            break
        kept.insert(0, piece)
    return kept


def _chunk(held: list[_Piece]) -> Chunk:
    parts: list[str] = []
    for before, piece in zip([None, *held], held, strict=False):
        if before is None:
            parts.append(piece.text)
        elif before.block is not piece.block:
            parts.append("\n\n" + piece.text)
        else:
            parts.append(("" if _CJK.search(piece.text[:1]) else " ") + piece.text)
    first, last = held[0].block, held[-1].block
    return Chunk("".join(parts), first.headings, first.page, first.first_line, last.last_line)
