"""State that a server hands to a client through the hub, sealed so that only the same principal can hand it back.

A server binds its state to the hub's credential, which all callers share; this puts the caller back into it.
"""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Raw

from hub.errors import InvalidParams
from hub.identity.principal import Principal
from hub.upstream import jsonrpc
from hub.vault.keyring import Keyring


class Seals:
    """Wraps `requestState` and task ids (MCP 2026-07-28: both are attacker-controlled when they come back)."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def wrap(self, purpose: str, principal: Principal, server: str, raw: Raw | bytes, at: str = "") -> bytes:
        """A JSON string that stands for `raw` towards this principal. `at` is the replica that it is good for."""
        inside = orjson.dumps([principal.acts_for, server, bytes(raw).decode(), *([at] if at else [])])
        return orjson.dumps(self._keyring.seal(purpose, inside))

    def unwrap(self, purpose: str, principal: Principal, server: str, raw: Raw | bytes) -> Raw:
        """What `wrap` was given. Raises `InvalidParams` for anything else, and for another principal or server."""
        owner, found, _ = self.open(purpose, principal, raw)
        if owner != server:
            raise _foreign(purpose)
        return Raw(found)

    def open(self, purpose: str, principal: Principal, raw: Raw | bytes) -> tuple[str, bytes, str]:
        """The server that a wrapped value belongs to, the value, and the replica that it is good for."""
        sealed = jsonrpc.value(raw)
        if not isinstance(sealed, str):
            raise _foreign(purpose)
        told = orjson.loads(self._keyring.open(purpose, sealed))
        if told[0] != principal.acts_for:
            raise _foreign(purpose)
        return str(told[1]), str(told[2]).encode(), str(told[3]) if len(told) > 3 else ""

    def seal_call(self, call: list[Any]) -> str:
        """What identifies a call at rest, as text for its client to bring back (`parks.py`)."""
        return self._keyring.seal("park", orjson.dumps(call))

    def open_call(self, sealed: str) -> list[Any]:
        """What `seal_call` was given. Raises `InvalidParams` for anything else."""
        return orjson.loads(self._keyring.open("park", sealed))


def _foreign(purpose: str) -> InvalidParams:
    what = "task" if purpose == "task" else "requestState"
    return InvalidParams(f"Unknown {what}", hint="Send back exactly what you were given, as the same caller.")
