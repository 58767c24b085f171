"""Versions of a server that are tried out: as declared, who gets one, and the snapshot that those see.

A caller is put on one side by who it is, which client it uses or a header, never by chance at each request: so its
lists and its calls agree, on every worker.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from hub.catalog.models import ServerRow
from hub.catalog.snapshot import Canary, Server
from hub.catalog.strict import Short, Strict
from hub.identity.principal import Principal

Url = Annotated[str, StringConstraints(max_length=2_000)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
HeaderName = Annotated[str, StringConstraints(max_length=100, pattern=r"^[Xx]-[A-Za-z0-9._-]+$")]
HeaderValue = Annotated[str, StringConstraints(max_length=500, pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$")]

WAYS = ("url", "command", "package", "openapi")
PARTS = 10_000
"""Steps of a share: a hundredth of a per cent."""


class Bounds(Strict):
    """When a canary is rolled back by itself: past one of these, once it has had `calls` calls within `window`."""

    error_rate: float | None = Field(
        default=5, ge=0, le=100, description="Per cent of its calls that fail, and more than of the stable version's."
    )
    latency: float | None = Field(
        default=3, ge=1, le=1000, description="So many times the stable version's 95th percentile."
    )
    latency_seconds: float | None = Field(default=None, gt=0, le=3600, description="Its own 95th percentile.")
    calls: int = Field(default=50, ge=1, le=1_000_000, description="Calls of the canary before it is judged.")
    window: int = Field(default=300, ge=5, le=3600, description="Seconds that are looked back.")


class CanarySpec(Strict):
    """A version to try out: how it is reached, and who gets it. What it leaves out is as the server has it."""

    url: Url | None = None
    replicas: list[Url] | None = None
    command: list[str] | None = None
    package: Short | None = None
    openapi: Url | None = None
    base_url: Url | None = None
    args: list[str] | None = None
    requirements: list[str] | None = None
    env: dict[str, SecretStr] | None = None
    headers: dict[str, SecretStr] | None = None
    folders: dict[str, Literal["read", "write", "own"]] | None = None
    sandbox: Literal["server", "trusted"] | None = None
    era: Literal["auto", "modern", "legacy"] | None = None
    version: Short = ""
    share: float = Field(default=0, ge=0, le=100, description="Per cent of all callers, always the same ones.")
    groups: list[Pattern] = Field(default_factory=list[str], max_length=100, description="Teams that get it.")
    clients: list[Pattern] = Field(
        default_factory=list[str],
        max_length=100,
        description="Clients that get it, by their name (`claude-*`).",
    )
    when: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict[str, str], max_length=10, description="Requests with one of these headers get it."
    )
    bounds: Bounds = Field(default_factory=Bounds)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if sum(getattr(self, way) is not None for way in WAYS) != 1:
            raise ValueError("give exactly one of url, command, package and openapi")
        if any(name.lower().startswith("x-entrepot-") for name in self.when):
            raise ValueError("headers that begin with x-entrepot- are the hub's own")
        return self

    def over(self, stable: Mapping[str, Any]) -> dict[str, Any]:
        """The whole declaration of the version: the server's own, with what is given here in its place."""
        given = {
            name: value
            for name in self.__class__.model_fields
            if name not in RULES and (value := getattr(self, name)) is not None
        }
        kept = {name: value for name, value in stable.items() if name not in (*WAYS, "base_url", "canary", "replicas")}
        if not any(stable.get(way) is not None for way in WAYS if way in given):
            # Another way of reaching it: what belonged to the old way would not fit.
            kept = {name: value for name, value in kept.items() if name not in OF_A_WAY}
        return kept | given

    def rules(self) -> dict[str, Any]:
        """Who gets it and when it is rolled back, as kept beside the version."""
        return {name: value for name, value in self.model_dump(mode="json").items() if name in RULES - {"version"}}


RULES = frozenset({"share", "groups", "clients", "when", "bounds"})
OF_A_WAY = frozenset({"args", "requirements", "env", "headers", "folders"})


class CanaryChange(Strict):
    """New rules for a roll-out that is under way; what is left out stays."""

    share: float | None = Field(default=None, ge=0, le=100)
    groups: list[Pattern] | None = None
    clients: list[Pattern] | None = None
    when: dict[HeaderName, HeaderValue] | None = None
    bounds: Bounds | None = None


def rules_of(row: ServerRow, server: Server) -> Canary:
    """Who gets a version, as stored; what it shows is added by the publisher."""
    rules = row.rollout
    when: dict[str, str] = rules.get("when", {})
    return Canary(
        server=server,
        share=float(rules.get("share", 0)),
        groups=frozenset(rules.get("groups", ())),
        clients=tuple(rules.get("clients", ())),
        headers=tuple((name.lower().encode(), value.encode()) for name, value in when.items()),
        salt=str(rules.get("salt", "")),
        parts={},
        aliases=(),
    )


def takes(
    canary: Canary, principal: Principal, client: str, headers: Sequence[tuple[bytes, bytes]], server: str
) -> bool:
    """Whether a caller gets this canary. A run counts as the one it acts for."""
    if canary.share and _place(canary.salt, server, principal.acts_for) < canary.share * PARTS / 100:
        return True
    if canary.groups and any(_any(team, canary.groups) for team in principal.teams):
        return True
    if canary.clients and client and _any(client, canary.clients):
        return True
    return bool(canary.headers) and any(pair in canary.headers for pair in headers)


def _place(salt: str, server: str, subject: str) -> int:
    digest = hashlib.sha256(f"{salt}\0{server}\0{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % PARTS


def _any(name: str, patterns: frozenset[str] | tuple[str, ...]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
