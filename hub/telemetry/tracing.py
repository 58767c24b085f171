"""Trace ids as W3C Trace Context has them: read from a caller's `traceparent`, made where there is none."""

from __future__ import annotations

import random
import re
import secrets
from dataclasses import dataclass

# https://www.w3.org/TR/trace-context/#traceparent-header: a later version may append fields, ff is forbidden.
TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_random = random.Random(secrets.randbits(128))
"""Names of traces are public; they need be unique, not unguessable, and the system's source costs 1.5 µs each."""

NO_TRACE = "0" * 32
NO_SPAN = "0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a request stands in its trace: 32 and 16 hexadecimal digits, and whether it is recorded."""

    id: str
    span: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """The `traceparent` to send on."""
        return f"00-{self.id}-{self.span}-{'01' if self.sampled else '00'}"

    def child(self) -> Trace:
        """A new span of the same trace."""
        return Trace(self.id, _span(), self.sampled)


def parse(traceparent: str | None) -> Trace | None:
    """The trace that a header names; None when there is none or it is not well-formed."""
    if not traceparent or len(traceparent) > 200:
        return None
    found = TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or (found[1] == "00" and found[5]) or found[2] == NO_TRACE or found[3] == NO_SPAN:
        return None
    return Trace(found[2], found[3], bool(int(found[4], 16) & 1))


def make() -> Trace:
    """A new trace with its first span."""
    return Trace(f"{_random.getrandbits(128):032x}", _span())


def _span() -> str:
    return f"{_random.getrandbits(64):016x}"


def trace_id(traceparent: str | None) -> str:
    """The caller's trace, or a new one: all that a call needs."""
    caller = parse(traceparent) if traceparent else None
    return caller.id if caller else f"{_random.getrandbits(128):032x}"


def follow(traceparent: str | None) -> Trace:
    """A span of ours in the caller's trace, or in a new one."""
    caller = parse(traceparent)
    return caller.child() if caller else make()
