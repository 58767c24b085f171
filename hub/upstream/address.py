"""Where a server is reached, and what a look at it brought back: all that this layer knows of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hub.upstream.terms import Terms

Era = Literal["legacy", "modern"]
Kind = Literal["tool", "prompt", "resource", "template"]
KINDS: tuple[Kind, ...] = ("tool", "prompt", "resource", "template")
Wanted = Literal["auto", "modern", "legacy"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is reached: its URL, the local socket in front of it if any, and headers of our own.

    `headers` hold credentials and never print. `transport` "sse" is the HTTP+SSE pair of 2024-11-05. `terms` are those
    of its declaration; None: the installation's.
    """

    url: str
    socket: str = ""
    transport: Literal["http", "sse"] = "http"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    replicas: tuple[str, ...] = ()
    """URLs of further replicas of the same version, reached in the same way."""
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself in one era."""

    capabilities: Mapping[str, Any]
    info: Mapping[str, Any]
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a server was found to be: facts per era, and its definitions in the bytes it gave.

    `definitions` keeps the server's order. `transport` is what answered. `problems` names definitions that were
    left out, and why.
    """

    facts: Mapping[Era, Facts]
    definitions: Mapping[tuple[Era, Kind], tuple[bytes, ...]]
    transport: Literal["http", "sse"] = "http"
    problems: tuple[str, ...] = ()
