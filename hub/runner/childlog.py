"""The log file of one child: JSON lines of the shape that `GET /logs` answers, bounded, its last lines at hand.

Everything a child prints is untrusted: lines are cut, secrets that we know of are struck out.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import orjson

from hub.ids import now

LARGEST_FILE = 5 * 2**20
"""Bytes before the file is turned over; one older file is kept, so a child never holds more than twice this."""

LONGEST_LINE = 8 * 2**10
"""Bytes kept of one line; the rest of it is dropped."""

TAIL_LINES = 40
TAIL_BYTES = 2048
"""What an error message may quote of a child's last words."""

SECRET = re.compile(
    r"(?i)\b(bearer\s+|(?:[\w-]*(?:token|secret|password|passwd|api[_-]?key|authorization))[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"
)


class ChildLog:
    """Append-only writer of `logs/child-NAME.log`."""

    def __init__(self, folder: Path, name: str, secrets: Iterable[str] = ()) -> None:
        self.path = folder / f"child-{name}.log"
        self._source = f"child-{name}"
        self._secrets = tuple(value for value in secrets if len(value) >= 8)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def write(self, message: str, level: str = "info") -> None:
        """Add one line, with the time, redacted and cut."""
        text = self.redact(message[:LONGEST_LINE].rstrip("\r\n"))
        if level == "info":
            self._tail.append(text)
        entry = {"at": now(), "level": level, "source": self._source, "message": text}
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        if self._size + len(line) > LARGEST_FILE:
            self._turn_over()
        self._size += os.write(self._file, line)

    def redact(self, text: str) -> str:
        """The text without values of the child's environment and without what looks like a credential."""
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return SECRET.sub(r"\1[redacted]", text)

    def last_words(self) -> str:
        """The last lines that the child printed, at most `TAIL_BYTES`."""
        return "\n".join(self._tail)[-TAIL_BYTES:]

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _turn_over(self) -> None:
        os.close(self._file)
        self.path.replace(self.path.with_suffix(".log.1"))
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = 0
