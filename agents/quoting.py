"""Which sentences of the passages answer a question, for models that choose well but write badly.

Passages are cut into sentences that can stand alone, sentences are ranked, and those that cannot be an answer are
dropped. The model then chooses among the few that are left. Standard library only: this runs in the sandbox.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

PASSAGES = 3
CHOICES = 3
LONGEST_SENTENCE = 420
MARGIN = 0.15
"""How far behind the best a sentence may rank and still be offered to the model."""
LEAST_VECTOR = 0.1
"""Cosine below which a sentence that shares no word with the question is about something else."""
LATIN_START, CHINESE_START = 60, 12
"""Characters of a sentence's beginning that the model writes: enough to tell it from others, cheap to decode."""

CJK = re.compile(r"[\u3400-\u9fff]")
MARK = re.compile(r"\[(\d{1,2})\]")
STOP = frozenset(
    re.findall(
        r"[a-z]+",
        "a an and any are as at be been by can do does for from get has have how i if in is it its many may me much "
        "must my of on or our s should that the their there these they this to was we were what when where which who "
        "whose why will with you your not no according passage passages answer question document documents",
    )
)
_END = re.compile(r"(?<=[.!?])\s+(?=[\"'`*(]*[A-Z0-9])|(?<=[。！？；])")
_ENDED = re.compile(r"[.!?:;。！？：；]$")
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•|]|\d{1,2}[.)])\s)")
_LIST_MARK = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")
_LEANING = re.compile(
    r"(?:They|It|This|That|These|Those|He|She|If (?:nobody|it|they|that|not))\b|(?:它|他|她|其|该|这)"
)
"""Beginnings of sentences that say nothing without the one before."""
_COUNTING = re.compile(r"\bhow (?:many|much)\b|多少|几(?=[个天周日月年次小分家种位])|百分之几", re.IGNORECASE)
_NUMBER = re.compile(
    r"\d|[一二三四五六七八九十百两半零]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|once|twice|"
    r"half|double|dozen|hundred|no|none|first|second|third|fourth)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Passage:
    """A piece of a document that a tool returned, and the fields that say where it is from."""

    text: str
    source: dict[str, Any]


@dataclass(frozen=True)
class Sentence:
    """A sentence that can stand alone, and the position of its passage."""

    text: str
    passage: int


def sentences(passages: list[Passage]) -> list[Sentence]:
    """The sentences of the first passages. One that leans on the sentence before is joined to it."""
    found: list[Sentence] = []
    for place, passage in enumerate(passages[:PASSAGES]):
        before = ""
        for text in _pieces(passage.text):
            whole = text
            if before and _LEANING.match(text) and len(before) + len(text) < LONGEST_SENTENCE:
                whole = f"{before}{'' if CJK.search(text) else ' '}{text}"
            before = text
            found.append(Sentence(whole[:LONGEST_SENTENCE], place))
    return list({sentence.text: sentence for sentence in reversed(found)}.values())[::-1]


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        lines = _without_headings([line.strip() for line in paragraph.strip().splitlines()])
        plain = _LIST_MARK.sub("", " ".join(lines).replace("**", ""))
        pieces += [piece.strip() for piece in _END.split(plain) if len(piece.strip()) > 1]
    return pieces


def _without_headings(lines: list[str]) -> list[str]:
    """Without the headings that an extractor left among the lines of a page."""
    kept: list[str] = []
    begins = True
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        ended = bool(_ENDED.search(line))
        if not (begins and not ended and len(line) < 60 and below[:1].isupper()):
            kept.append(line)
            begins = ended
    return kept


def candidates(
    question: str, passages: list[Passage], found: list[Sentence], vectors: list[list[float]]
) -> list[Sentence]:
    """The few sentences that may be the answer, best first; none when nothing fits.

    `vectors` are those of the question and of each sentence; empty where nothing computes them.
    """
    ranked: list[tuple[float, int, Sentence]] = []
    for number, sentence in enumerate(found):
        near = cosine(vectors[0], vectors[number + 1]) if vectors else 0.0
        shared = coverage(question, sentence, passages[sentence.passage])
        if _can_answer(question, sentence, shared, near, with_vectors=bool(vectors)):
            # Ties keep the order of the search.
            ranked.append((near + shared / 2, -number, sentence))
    ranked.sort(key=lambda entry: entry[:2], reverse=True)
    kept: list[Sentence] = []
    for score, _, sentence in ranked:
        overlaps = any(sentence.text in other.text or other.text in sentence.text for other in kept)
        if score >= ranked[0][0] - MARGIN and not overlaps:
            kept.append(sentence)
    return kept[:CHOICES]


def _can_answer(question: str, sentence: Sentence, shared: float, near: float, *, with_vectors: bool) -> bool:
    if _COUNTING.search(question) and not _NUMBER.search(sentence.text):
        return False
    if bool(CJK.search(question)) != bool(CJK.search(sentence.text)):
        # Another language shares no words; only vectors can tell.
        return near >= 3 * LEAST_VECTOR
    return shared > 0 and (near >= LEAST_VECTOR or not with_vectors)


def coverage(question: str, sentence: Sentence, passage: Passage) -> float:
    """Share of the question's own words that the sentence has. Words of the document's title are not its own."""
    titled = stems(str(passage.source.get("title") or ""))
    asked = stems(question)
    own = asked - titled or asked
    return len(own & stems(sentence.text)) / len(own) if own else 0.0


def beginnings(chosen: list[Sentence]) -> dict[str, Sentence]:
    """Sentences by a beginning that tells them apart."""
    found: dict[str, Sentence] = {}
    for sentence in chosen:
        length = CHINESE_START if CJK.search(sentence.text) else LATIN_START
        cut = sentence.text[:length]
        # A cut within a word would be an odd thing to write.
        cut = cut.rsplit(" ", 1)[0] if len(sentence.text) > length and " " in cut else cut
        found.setdefault(cut if cut not in found else sentence.text, sentence)
    return found


def content_words(text: str) -> set[str]:
    """Words that carry meaning, and pairs of neighbouring Chinese characters (Chinese has no spaces)."""
    words = {word for word in re.findall(r"[a-z0-9]+", MARK.sub(" ", text).lower()) if word not in STOP}
    for stretch in re.findall(r"[\u3400-\u9fff]+", text):
        words |= {stretch[place : place + 2] for place in range(len(stretch) - 1)} or {stretch}
    return words


def stems(text: str) -> set[str]:
    """Content words cut so that plain inflections meet: page, pages and paged."""
    return {re.sub(r"(?:ing|ed|es|e|s)$", "", word) if len(word) > 3 else word for word in content_words(text)}


def cosine(left: list[float], right: list[float]) -> float:
    """Of two vectors; 0 where one has no length."""
    lengths = (sum(x * x for x in left) * sum(x * x for x in right)) ** 0.5
    return sum(x * y for x, y in zip(left, right, strict=True)) / lengths if lengths else 0.0
