"""Server-sent events, read incrementally and with a bound (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from dataclasses import dataclass

from hub.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type ("message" unless told), its data, and its id where it had one."""

    kind: str
    data: bytes
    id: str = ""


class Reader:
    """Feed it chunks, get whole events. An event larger than `limit` bytes raises `UpstreamError`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: list[bytes] = []
        self._size = 0
        self._kind = ""
        self._id = ""
        self._data: list[bytes] = []
        self._mark = b"\xef\xbb\xbf"
        """The byte order mark that may stand before the first line, and only there."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise UpstreamError(
                "The server's event stream holds an event beyond the limit", hint="Raise max_result_bytes."
            )
        if b"\n" not in chunk and b"\r" not in chunk:
            self._rest.append(chunk)
            return []
        lines = b"".join((*self._rest, chunk)).splitlines(keepends=True)
        # A CR at the very end may be the first half of a CRLF that was cut, so it waits like an open line.
        self._rest = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        events: list[Event] = []
        for line in lines:
            self._line(line.rstrip(b"\r\n").removeprefix(self._mark), events)
            self._mark = b""
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(Event(self._kind or "message", data, self._id))
            self._kind, self._data, self._size = "", [], sum(map(len, self._rest))
            return
        if line.startswith(b":"):
            return
        field, _, content = line.partition(b":")
        content = content.removeprefix(b" ")
        if field == b"data":
            self._data.append(content)
        elif field == b"event":
            self._kind = content.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in content:
            self._id = content.decode("utf-8", "replace")


def frame(message: bytes) -> bytes:
    """A JSON-RPC message as one event. JSON bytes hold no raw line break unless pretty-printed."""
    if b"\n" in message or b"\r" in message:
        message = b"\r\ndata: ".join(message.splitlines())
    return b"event: message\r\ndata: " + message + b"\r\n\r\n"


KEEP_ALIVE = b": keep-alive\r\n\r\n"
