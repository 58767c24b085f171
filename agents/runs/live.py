"""Runs under way in this process: how others ask one to stop, and hear what it is doing.

Runs execute in the durable engine's own loop and thread, callers wait in the web server's: this room is the bridge.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody who waits for a run: messages, then None at its end."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue[str | None])

    def tell(self, message: str | None) -> None:
        """Hand a message over from any thread; a listener whose loop has ended misses it."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.queue.put_nowait, message)


@dataclass(frozen=True, slots=True)
class StopSign:
    """Tells a run, in its own loop, to stop."""

    loop: asyncio.AbstractEventLoop
    raised: asyncio.Event

    def show(self) -> None:
        """Raise it from any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.raised.set)


class LiveRuns:
    """Who listens to which run, and how to stop it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = defaultdict(list)
        self._stops: dict[str, StopSign] = {}

    @contextmanager
    def listening(self, run: str) -> Generator[asyncio.Queue[str | None]]:
        """A queue of what the run says; None when it has ended."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners[run].append(listener)
        try:
            yield listener.queue
        finally:
            with self._lock:
                self._listeners[run].remove(listener)
                if not self._listeners[run]:
                    del self._listeners[run]

    @contextmanager
    def stoppable(self, run: str) -> Generator[asyncio.Event]:
        """The event that is set when somebody stops this run; for the run's own loop."""
        sign = StopSign(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._stops[run] = sign
        try:
            yield sign.raised
        finally:
            with self._lock:
                self._stops.pop(run, None)

    def say(self, run: str, message: str | None) -> None:
        """Tell all listeners; None says that the run has ended."""
        with self._lock:
            listeners = list(self._listeners.get(run, ()))
        for listener in listeners:
            listener.tell(message)

    def stop(self, run: str) -> None:
        """Ask a run that executes here to stop; others are stopped by their record."""
        with self._lock:
            sign = self._stops.get(run)
        if sign:
            sign.show()
