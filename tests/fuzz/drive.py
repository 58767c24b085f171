"""Sends what was drawn to a hub, and judges what comes back: an answer in time, none of 5xx, JSON where JSON is said.

A shot is judged by its answer, by what the hub logged meanwhile, and by whether a neighbour is still served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httptools
import orjson

from tests.fuzz.requests import ENDPOINTS, Known, Shot, good, hello, shot

ANSWER_SECONDS = 20.0
"""Wall time for an answer; generous, since a fuzzer may share its machine."""

STREAM_SECONDS = 0.02
"""How long a stream is listened to once it has begun."""

CUT_SECONDS = 0.02
"""How long an answer to a request that is not whole is waited for."""

MOST_CPU_SECONDS = 2.0
"""Of this process for one shot: more, and one caller can hold up all others."""

NEIGHBOUR_EVERY = 50
HARVESTED = 30


@dataclass(frozen=True)
class Fault:
    """What must not be, and the bytes that brought it about."""

    number: int
    what: str
    sent: bytes


@dataclass
class Report:
    """How many shots were sent, what statuses came back, and what was wrong."""

    shots: int = 0
    statuses: dict[int, int] = field(default_factory=dict[int, int])
    faults: list[Fault] = field(default_factory=list[Fault])


class Answer:
    """One HTTP answer as it arrives."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.complete = False
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """More bytes. Raises `httptools.HttpParserError`."""
        if not self.complete:
            self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if not self.complete:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.status = self.status or self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if not self.complete:  # what follows answers a pipelined request
            self.body += data

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.complete = True


class Complaints(logging.Handler):
    """Keeps what the hub logs as an error: nothing that a stranger sends may be one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        if record.name.startswith(("hub", "uvicorn", "asyncio")):
            cause = record.exc_info[1] if record.exc_info else ""
            self.heard.append(f"{record.name}: {record.getMessage()} {cause!r}"[:500])

    def take(self) -> str:
        """What was heard since the last time."""
        heard, self.heard = "; ".join(self.heard), []
        return heard


class Gun:
    """Fires at one hub in this process. `complaints` is added to the root logger by the caller."""

    def __init__(self, port: int, token: str, complaints: Complaints) -> None:
        self._port = port
        self._complaints = complaints
        self.known = Known(token, f"127.0.0.1:{port}")
        self.report = Report()

    async def fire(self, seed: int, *, shots: int = 0, until: float = 0.0, told: Callable[[Fault], None]) -> Report:
        """Fire `shots`, or until this moment (monotonic). Shot N of a seed is the same each time."""
        await self._harvest()
        number = 0
        while number < shots or time.monotonic() < until:
            drawn = shot(Random(f"{seed}:{number}"), self.known)
            for what in await self.judged(drawn):
                fault = Fault(number, what, b"".join(drawn.pieces))
                self.report.faults.append(fault)
                told(fault)
            number += 1
            self.report.shots += 1
            if number % NEIGHBOUR_EVERY == 0:
                for what in await self.judged(Shot((good(self.known),), True, False), wanted=200):
                    fault = Fault(number, f"a neighbour: {what}", b"".join(drawn.pieces))
                    self.report.faults.append(fault)
                    told(fault)
                if not self.known.sessions or number % 2_000 == 0:
                    await self._harvest()
        return self.report

    async def judged(self, drawn: Shot, wanted: int = 0) -> list[str]:
        """What is wrong with the hub's behaviour towards one shot."""
        began = time.process_time()
        answer, late = await self._sent(drawn)
        spent = time.process_time() - began
        status = answer.status
        self.report.statuses[status] = self.report.statuses.get(status, 0) + 1
        faults: list[str] = []
        if status >= 500 or (wanted and status != wanted):
            faults.append(f"HTTP {status} {bytes(answer.body[:300])!r}")
        if b"The hub failed" in answer.body:
            faults.append(f"an internal error {bytes(answer.body[:300])!r}")
        if late and drawn.whole and not drawn.streams:
            faults.append(f"no whole answer in {ANSWER_SECONDS:.0f} s (status {status})")
        if spent > MOST_CPU_SECONDS:
            faults.append(f"{spent:.1f} s of CPU")
        headless = b"".join(drawn.pieces).startswith(b"HEAD")
        if answer.complete and not headless and answer.headers.get(b"content-type") == b"application/json":
            try:
                self._remember(answer)
            except orjson.JSONDecodeError:
                faults.append(f"an answer that is not JSON {bytes(answer.body[:300])!r}")
        if said := self._complaints.take():
            faults.append(f"logged: {said}")
        return faults

    async def _sent(self, drawn: Shot) -> tuple[Answer, bool]:
        """The answer, and whether it was waited for in vain."""
        answer = Answer()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            for piece in drawn.pieces:
                writer.write(piece)
                if len(drawn.pieces) > 1:
                    await asyncio.sleep(0.01 if drawn.paused else 0)
            with suppress(ConnectionError):
                await writer.drain()
            wait = ANSWER_SECONDS if drawn.whole else CUT_SECONDS
            async with asyncio.timeout(wait) as patience:
                while not answer.complete and (data := await reader.read(65536)):
                    answer.feed(data)
                    if answer.status and answer.headers.get(b"content-type") == b"text/event-stream":
                        if drawn.streams:
                            patience.reschedule(asyncio.get_running_loop().time() + STREAM_SECONDS)
                    elif answer.status and b"".join(drawn.pieces).startswith(b"HEAD"):
                        break
        except TimeoutError:
            return answer, True
        except (ConnectionError, httptools.HttpParserError):
            return answer, False
        finally:
            writer.transport.abort()
        return answer, False

    def _remember(self, answer: Answer) -> None:
        """Keep sealed states that the hub gave, to be sent back changed."""
        told: Any = orjson.loads(answer.body) if answer.body else {}
        result: Any = told.get("result") if isinstance(told, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        state: Any = result.get("requestState") if isinstance(result, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(state, str) and len(self.known.states) < HARVESTED:
            self.known.states.append(state)

    async def _harvest(self) -> None:
        """Sessions of our own, to be used well and badly."""
        self.known.sessions.clear()
        self.known.places.clear()
        for path in ENDPOINTS:
            answer, _ = await self._sent(Shot((hello(self.known, path),), True, False))
            session = answer.headers.get(b"mcp-session-id", b"").decode("latin-1")
            if session:
                self.known.sessions.append(session)
                self.known.places[session] = path
