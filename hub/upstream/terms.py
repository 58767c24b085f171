"""On what terms a server is called: the five deadlines, how much at once, and when it counts as ill.

Fixed per registration; what a declaration leaves out is the installation's default. One model for every kind of
server and both eras, so that an error can name the deadline that ended a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one exchange: seconds to connect, seconds to an answer or the head of a stream, bytes of an answer.

    Of a stream: seconds between signs of life (0: as for an answer), and seconds in all. `deadline` is what the
    answer's is called.
    """

    connect_seconds: float = 10.0
    answer_seconds: float = 300.0
    answer_bytes: int = 64 * 2**20
    idle_seconds: float = 0.0
    total_seconds: float = 3600.0
    deadline: str = "call"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. Progress and other signs of life extend `idle`; nothing extends `total`."""

    connect: float = 10.0
    """Until a connection stands; a server that was well until now may restart within it."""
    list: float = 20.0
    """Until the whole answer to a handshake, a list or a check."""
    call: float = 300.0
    """Until a call's answer, or until the first sign of life where the answer is a stream."""
    idle: float = 300.0
    """Between signs of life on a call's stream."""
    total: float = 3600.0
    """From a call's admission to its answer: waiting, every round and a replay included."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many calls a worker has with a server at once, and how many may wait for a place, how long."""

    calls: int = 512
    """0: as many as come. The default only keeps one silent server from filling the memory."""
    queue: int = 512
    wait: float = 10.0
    """Seconds; longer than a hiccup, shorter than the patience of common clients."""


@dataclass(frozen=True, slots=True)
class ActiveHealth:
    """Checks of the hub's own: one worker asks the server every `interval` seconds."""

    interval: float = 20.0
    """Seconds between checks; 0: none."""
    timeout: float = 5.0
    """Seconds that one check may take."""
    passes: int = 2
    """Checks passed in a row that make it healthy again."""
    fails: int = 3
    """Checks failed in a row that make it ill; one hiccup must not make the catalog flap."""


@dataclass(frozen=True, slots=True)
class PassiveHealth:
    """What callers meet: failures in a row open the breaker for a pause."""

    failures: int = 5
    pause: float = 1.0
    """Seconds that it stays open first: doubled at each failed trial, reset by the first success."""
    longest_pause: float = 30.0


@dataclass(frozen=True, slots=True)
class Terms:
    """All of it."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    concurrency: Concurrency = field(default_factory=Concurrency)
    active: ActiveHealth = field(default_factory=ActiveHealth)
    passive: PassiveHealth = field(default_factory=PassiveHealth)
    answer_bytes: int = 64 * 2**20
    only_looks: bool = False
    """For somebody who asks no calls: every exchange has the time of a list."""

    def looking(self, seconds: float | None = None) -> Self:
        """The same for somebody who only looks: everything is a list, and has to come within that deadline."""
        within = self.deadlines.list if seconds is None else seconds
        connect = min(self.deadlines.connect, within)
        return replace(self, deadlines=Deadlines(connect, within, within, within, within), only_looks=True)

    @property
    def call_bounds(self) -> Bounds:
        """The bounds of one exchange of a call."""
        if self.only_looks:
            return self.list_bounds
        told = self.deadlines
        return Bounds(told.connect, told.call, self.answer_bytes, told.idle, told.total)

    @property
    def list_bounds(self) -> Bounds:
        """The bounds of a handshake, a list or a check."""
        told = self.deadlines
        return Bounds(told.connect, told.list, self.answer_bytes, told.list, told.list, "list")

    @property
    def listen_bounds(self) -> Bounds:
        """The bounds of a stream that is meant to stay: silence is its nature."""
        day = LISTEN_SECONDS
        return Bounds(self.deadlines.connect, day, self.answer_bytes, day, day, "listen")


LISTEN_SECONDS = 24 * 3600.0
"""A listen is begun anew once a day, so that one which died without a word does not stay for ever."""
