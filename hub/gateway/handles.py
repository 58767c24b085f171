"""A legacy session's id as a sealed handle: what `initialize` fixed, so that any worker can take the session over.

The worker that made a session may die; its client must not notice. The id says which worker holds the session, and
carries the rest sealed with the installation's key: version, capabilities, client, endpoint and, above all, the
principal, who alone can use it. What cannot be remade (messages that waited for the client) is lost with the worker.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from hub.catalog.snapshot import Mode
from hub.errors import InvalidParams
from hub.ids import Clock, new_id, system_clock
from hub.vault.keyring import Keyring

PURPOSE = "session"

MOST_PARAMS = 4096
"""Bytes of a handshake that are sealed into an id, which travels in a header; real clients send under 500."""

LONGEST_SECONDS = 7 * 24 * 3600.0
"""A handle is good for a week after its handshake; an older one has its client begin anew."""

MOST_ENDED = 10_000
"""Sessions that were closed by their clients and are remembered as such."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a session is remade from."""

    subject: str
    view_key: str
    version: str
    params: bytes
    mode: Mode | None = None


class Handles:
    """Makes and reads the ids of one worker's sessions."""

    def __init__(self, keyring: Keyring | None, worker: int, clock: Clock = system_clock) -> None:
        """Without a keyring ids are plain, and a session ends with its worker."""
        self._keyring = keyring
        self._worker = worker
        self._clock = clock
        self._ended: OrderedDict[str, None] = OrderedDict()

    def make(self, handshake: Handshake) -> str:
        """A new id."""
        unique = new_id(bits=160)
        if self._keyring is None or len(handshake.params) > MOST_PARAMS:
            return f"{self._worker}.{unique}"
        told: list[Any] = [
            unique,
            int(self._clock()),
            handshake.subject,
            handshake.view_key,
            handshake.version,
            handshake.params.decode(),
            handshake.mode,
        ]
        return f"{self._worker}.{self._keyring.seal(PURPOSE, orjson.dumps(told))}"

    def read(self, identifier: str) -> Handshake | None:
        """What is sealed into an id; None for one that is not ours, too old, or ended by its client."""
        if self._keyring is None or identifier in self._ended:
            return None
        try:
            told = orjson.loads(self._keyring.open(PURPOSE, identifier.partition(".")[2]))
        except (InvalidParams, UnicodeError):
            return None
        if self._clock() - told[1] > LONGEST_SECONDS:
            return None
        return Handshake(told[2], told[3], told[4], told[5].encode(), told[6])

    def ended(self, identifier: str) -> None:
        """Its client said good-bye: it is not taken over any more, as long as this worker remembers."""
        self._ended[identifier] = None
        if len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)
