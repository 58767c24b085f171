"""Signs of life on every stream towards a client: proxies in between commonly cut one that is silent for a minute.

One loop for all open answers, so that a plain call pays two operations on a dict and no timer. An answer that is
late becomes an event stream (every client has to take one) and carries comments until its result.
"""

from __future__ import annotations

import asyncio

from hub.gateway.wire import Reply


class Heartbeats:
    """Knows the answers that are being made. `run` is the owner of what is sent in their name."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """Of silence, before a sign of life is sent."""
        self._open: dict[Reply, float] = {}
        self._beating: dict[Reply, asyncio.Task[None]] = {}
        self._clock = asyncio.get_running_loop().time

    def opened(self, reply: Reply) -> Reply:
        """From now on this answer is kept alive; `closed` has to be called in the end."""
        self._open[reply] = self._clock()
        return reply

    def closed(self, reply: Reply) -> None:
        """The answer is made, or nobody wants it any more."""
        self._open.pop(reply, None)
        if self._beating:
            beating = self._beating.pop(reply, None)
            if beating is not None:
                beating.cancel()

    async def run(self) -> None:
        """Beat for ever."""
        try:
            while True:
                await asyncio.sleep(self.seconds / 3)
                self._beat()
        finally:
            for task in self._beating.values():
                task.cancel()

    def _beat(self) -> None:
        now = self._clock()
        for reply, opened in list(self._open.items()):
            silent_since = max(opened, reply.told)
            if now - silent_since < self.seconds * 2 / 3 or reply in self._beating:
                # A client that does not read what was sent is not sent more.
                continue
            task = self._beating[reply] = asyncio.create_task(reply.beat(now))
            task.add_done_callback(lambda _, reply=reply: self._beating.pop(reply, None))
