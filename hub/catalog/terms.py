"""The terms of a server: their declared form, and what holds once it is filled up with the installation's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, TypeVar, cast

from pydantic import Field

from hub.catalog.strict import Strict
from hub.upstream.terms import Terms

_Group = TypeVar("_Group")

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class DeadlinesSpec(Strict):
    """Seconds; what is left out is the installation's setting."""

    connect: Seconds | None = Field(default=None, description="Until a connection stands.")
    list: Seconds | None = Field(default=None, description="For the answer to a handshake, a list or a check.")
    call: Seconds | None = Field(
        default=None, description="For the answer to a call, or for its first sign of life on a stream."
    )
    idle: Seconds | None = Field(default=None, description="Between signs of life on a call's stream; progress is one.")
    total: Seconds | None = Field(
        default=None, description="For a call in all: waiting, every round and a replay included."
    )


class ConcurrencySpec(Strict):
    """How many calls each worker has with a server at once."""

    calls: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None, description="Calls under way at once; 0: as many as come."
    )
    queue: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None, description="Calls that may wait for a place; one more is refused as `server-busy`."
    )
    wait: Seconds | None = Field(default=None, description="Seconds that a call may wait for a place.")


class ActiveHealthSpec(Strict):
    """Checks of the hub's own."""

    interval: Annotated[float, Field(ge=0, le=86_400)] | None = Field(
        default=None, description="Seconds between checks; 0: none."
    )
    timeout: Seconds | None = Field(default=None, description="Seconds that one check may take.")
    passes: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Checks passed in a row that make it healthy again."
    )
    fails: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Checks failed in a row that make it ill."
    )


class PassiveHealthSpec(Strict):
    """What callers meet."""

    failures: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Failures in a row after which it is left alone for a pause."
    )
    pause: Seconds | None = Field(
        default=None, description="Seconds of the first pause: doubled at each failed trial, reset by a success."
    )
    longest_pause: Seconds | None = Field(default=None, description="Seconds of the longest pause.")


class HealthSpec(Strict):
    """When a server counts as ill."""

    active: ActiveHealthSpec = Field(default_factory=ActiveHealthSpec)
    passive: PassiveHealthSpec = Field(default_factory=PassiveHealthSpec)


def of(declared: Mapping[str, Any], defaults: Terms) -> Terms:
    """What holds for a server, from its declaration as stored (checked when it was declared)."""
    health = _mapping(declared.get("health"))
    return replace(
        defaults,
        deadlines=_filled(defaults.deadlines, declared.get("deadlines")),
        concurrency=_filled(defaults.concurrency, declared.get("concurrency")),
        active=_filled(defaults.active, health.get("active")),
        passive=_filled(defaults.passive, health.get("passive")),
    )


def shown(terms: Terms) -> dict[str, Any]:
    """The same for people: in the form of a declaration, with nothing left out."""
    return {
        "deadlines": asdict(terms.deadlines),
        "concurrency": asdict(terms.concurrency),
        "health": {"active": asdict(terms.active), "passive": asdict(terms.passive)},
    }


def _filled(group: _Group, said: Any) -> _Group:
    known = {key: value for key, value in _mapping(said).items() if value is not None and hasattr(group, key)}
    return replace(group, **known) if known else group  # pyright: ignore[reportArgumentType, reportUnknownVariableType] - one of the dataclasses of `Terms`


def _mapping(found: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
