"""One open request on a stdio process, and the bounded box in which its messages wait for whoever reads them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any


class Outbox:
    """Messages for one reader. Notifications are dropped when it is full; what must arrive never is."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def put(self, message: bytes, *, must_arrive: bool = False) -> None:
        """Add a message, unless the box is closed or full."""
        if self._closed:
            return
        if len(self._waiting) >= self._limit and not must_arrive:
            self.dropped += 1
            return
        self._waiting.append(message)
        self._ready.set()

    def close(self, last: bytes | None = None) -> None:
        """Add the last message, if any, and let the reader come to its end."""
        if last is not None:
            self.put(last, must_arrive=True)
        self._closed = True
        self._ready.set()

    def wake(self) -> None:
        """Let the reader look at the state of things."""
        self._ready.set()

    async def next(self, seconds: float) -> bytes | None:
        """The next message; None when the box is closed and empty, or was woken. Raises TimeoutError."""
        if not self._waiting and not self._closed:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        self._ready.clear()
        if self._waiting:
            return self._waiting.popleft()
        if self._closed:
            self._ready.set()
        return None

    @property
    def only_last(self) -> bool:
        """Whether the message read last was the last one."""
        return self._closed and not self._waiting


@dataclass(eq=False)
class Exchange:
    """An open request: the caller's names for it beside ours."""

    client_id: Any
    method: str
    outbox: Outbox
    owner: str = ""
    """The legacy session that asked; empty in the modern era."""
    target: str = ""
    """What is called, by method and name; empty for what cannot ask anything back."""
    token: Any = None
    """The caller's progress token."""
    log_level: Any = None
    own_id: int = 0
    asks: set[int] = field(default_factory=set[int])
    """The server's questions that this caller was asked and has not answered."""
