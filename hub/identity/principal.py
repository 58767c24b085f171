"""The authenticated caller, as every other room sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["person", "service", "run", "local"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, with what rights. Passed as an argument, never looked up from a context.

    `subject` is unique and stable (`key:01h…`, `person:admin`, `run:…`, `local:admin`). `scopes` are the words
    of `hub.policy.actions`. A run acts for somebody: `on_behalf_of` is that one's subject.
    """

    subject: str
    name: str
    kind: Kind
    scopes: frozenset[str] = field(default_factory=frozenset[str])
    on_behalf_of: str = ""
    expires: float = 0.0
    """Seconds since the epoch; 0 means never."""
    teams: frozenset[str] = field(default_factory=frozenset[str])
    """Whom it belongs to, for limits and for who gets a new version first; of a run, those of whom it acts for."""

    @property
    def acts_for(self) -> str:
        """The subject at the beginning of the chain of delegation."""
        return self.on_behalf_of or self.subject


LOCAL_ADMINISTRATOR = Principal("local:admin", "local administrator", "local", frozenset({"call", "models", "admin"}))
"""Whoever may open the 0600 admin socket."""

OPEN_CALLER = Principal("local:open", "anyone on this machine", "local", frozenset({"call", "models"}))
"""A loopback caller without a token, when the hub was started with `--open`."""
