"""Records refusals that a stranger can cause as often as he likes: so many a second, the others counted.

The answer is a refusal either way, so a record that cannot be written is logged and changes nothing for the caller.
"""

from __future__ import annotations

import logging
import time

from hub.audit.recorder import Actor, Audit, outcome_of
from hub.errors import HubError, Unavailable
from hub.ids import Clock
from hub.telemetry.redaction import redact

log = logging.getLogger(__name__)

MOST_A_SECOND = 10
"""Of one process: enough to see an attack and where it comes from, too few to fill a disk (some 200 MB a day)."""

LONGEST_TARGET = 200


class Refusals:
    """The refusals of one process, recorded as `event`."""

    def __init__(self, audit: Audit, event: str, clock: Clock = time.monotonic) -> None:
        """`clock` gives seconds from any beginning."""
        self._audit = audit
        self._event = event
        self._clock = clock
        self._second = -1
        self._count = 0
        self._left_out = 0

    def record(
        self, error: HubError, principal: Actor | None = None, *, target: str = "", origin: str = "", trace: str = ""
    ) -> None:
        """Write down that somebody (None: nobody that is known) was refused with `error`. Never raises.

        `target` is what was asked for and `origin` where from; what looks like a secret in them is hidden.
        """
        if not self._may_write():
            self._left_out += 1
            return
        try:
            with self._audit.recording(self._event, principal, trace=trace) as record:
                record.target = redact(target[:LONGEST_TARGET])
                record.outcome = outcome_of(error)
                record.detail = self._told(error, origin)
        except Unavailable as unwritable:
            log.warning("a refusal could not be recorded: %s", unwritable.reason)
            return
        self._left_out = 0

    def _may_write(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= MOST_A_SECOND

    def _told(self, error: HubError, origin: str) -> str:
        parts = [error.code, f"from {redact(origin)}" if origin else ""]
        parts.append(f"{self._left_out} more before this" if self._left_out else "")
        return "; ".join(part for part in parts if part)
