"""Bounds on size and nesting, so that no parser behind us meets what would exhaust it. Reads bytes, parses nothing."""

from __future__ import annotations

import re

from hub.errors import TooLarge
from hub.guardrails.chain import Broken, Looked, Phase

DEEPEST = 64
"""Levels of arrays and objects. Honest arguments have under ten; Python's own json gives up near a thousand."""

SEARCHED_BYTES = 16 * 1024

STRINGS = re.compile(rb'"[^"]*+"')
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
SQUARE = bytes.maketrans(b"{}", b"[]")


class Size:
    """Refuses bodies over `largest` bytes or nested deeper than `deepest`."""

    name = "size"
    phases = frozenset({Phase.ARGUMENTS, Phase.RESULT})
    broken = Broken.REFUSE

    def __init__(self, largest: int, deepest: int = DEEPEST) -> None:
        self._largest = largest
        self._deepest = deepest

    def look(self, looked: Looked, body: bytes) -> bytes:
        """The same bytes. Raises `TooLarge`."""
        check_size(body, self._largest)
        check_depth(body, self._deepest)
        return body


def check_size(body: bytes, largest: int) -> None:
    """Raise `TooLarge` for more bytes than that."""
    if len(body) > largest:
        raise TooLarge(f"{len(body)} bytes are more than the {largest} allowed.", hint="Send less at once.")


def _few_brackets(body: bytes, most: int) -> bool:
    """Whether so few open that nothing can be nested deeper. In a large text, searching is five times counting."""
    if len(body) < SEARCHED_BYTES:
        return body.count(b"[") + body.count(b"{") <= most
    found = 0
    for bracket in (b"[", b"{"):
        at = body.find(bracket)
        while at >= 0:
            found += 1
            if found > most:
                return False
            at = body.find(bracket, at + 1)
    return True


def check_depth(body: bytes, deepest: int = DEEPEST) -> None:
    """Raise `TooLarge` for JSON nested deeper than that; bytes that are no JSON may pass, for the parser to refuse."""
    if _few_brackets(body, deepest):
        return
    # Brackets alone, one kind: then every pass removes the innermost level, at memory speed.
    if b"\\" in body:
        # Escapes first, pairs before quotes: an expression that knows them takes four times as long.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = STRINGS.sub(b"", body).translate(SQUARE, NOT_BRACKETS)
    too_deep = b"[" * (deepest + 1)
    for _ in range(deepest):
        if not brackets:
            return
        # The hostile case, a million openings in a row, is told without paying for the passes.
        if too_deep in brackets:
            break
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            # Nothing closes: not JSON. What opens still costs a parser its stack.
            break
        brackets = shorter
    if too_deep in brackets or brackets.count(b"[") > deepest or b"[]" in brackets:
        raise TooLarge(f"JSON nested deeper than {deepest} levels is not accepted.", hint="Flatten the value.")
