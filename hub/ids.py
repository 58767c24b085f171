"""Identifiers and the clock that everything else is handed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Seconds since the epoch. Passed in, so that a test can turn it."""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, lower case: no letter that reads like a digit."""


def new_id(prefix: str = "", bits: int = 80) -> str:
    """An unguessable identifier, `prefix` in front; 80 bits unless told."""
    value = secrets.randbits(bits)
    letters: list[str] = []
    for _ in range((bits + 4) // 5):
        value, digit = divmod(value, 32)
        letters.append(ALPHABET[digit])
    return prefix + "".join(reversed(letters))


def now() -> datetime:
    """The present moment in UTC, with its zone."""
    return datetime.now(UTC)


system_clock: Clock = time.time
