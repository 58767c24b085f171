"""Every action there is, and the scopes that allow it: this list is the reference.

A scope is a word of a key: `call` allows everything behind MCP, `call:SERVER` one server and
`call:SERVER/NAME` one tool, prompt or resource of it; `models` and `models:NAME` likewise for models;
`admin` allows everything in the admin API, `admin:read` looks only. A key made without scopes has
`call` and `models`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be allowed: its name, what it means, and the family of scopes that allows it."""

    name: str
    description: str
    family: str


ACTIONS = (
    Action("tool:call", "Call a tool.", "call"),
    Action("prompt:get", "Fetch a prompt.", "call"),
    Action("resource:read", "Read or subscribe to a resource.", "call"),
    Action("model:use", "Use a model for completions or embeddings.", "models"),
    Action("admin:read", "See servers, keys, models, agents, runs, logs and audit.", "admin"),
    Action("admin:write", "Change servers, keys, models and agents.", "admin"),
)

DEFAULT_SCOPES = frozenset({"call", "models"})
FAMILIES = ("call", "models", "admin")


def scope_is_known(scope: str) -> bool:
    """Whether a scope is of a form that can ever allow something."""
    family, _, rest = scope.partition(":")
    if family not in FAMILIES or scope.endswith(":") or len(scope) > 300:
        return False
    return family != "admin" or rest in ("", "read")
