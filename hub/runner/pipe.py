"""One stdio process as a JSON-RPC peer: its lines in and out, ids made unique, answers led back.

It knows no era: what a notification or a question of the server means is its listener's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any, Protocol

import orjson

from hub.errors import OutcomeUnknown, TooMany, UpstreamDown
from hub.runner import jsonrpc
from hub.runner.childlog import ChildLog
from hub.runner.exchange import Exchange, Outbox
from hub.runner.jsonrpc import Message
from hub.runner.process import LineTooLong, Process
from hub.runner.spec import Bounds

WRITE_SECONDS = 30.0
"""A process that does not read its stdin for so long is stuck."""

BAD_LINES_PER_ENTRY = 500
"""One log entry for so many lines that are no JSON-RPC."""


class Listener(Protocol):
    """What is told of everything that is no answer."""

    def notified(self, pipe: Pipe, message: Message, line: bytes) -> None:
        """The server sent a notification other than progress."""
        ...

    def asked(self, pipe: Pipe, message: Message) -> None:
        """The server sent a request."""
        ...

    def closed(self, pipe: Pipe) -> None:
        """The process is gone; its open exchanges have been answered."""
        ...

    def finished(self, exchange: Exchange) -> None:
        """An exchange was answered or given up."""
        ...


class Pipe:
    """Owner of the reading task; the process belongs to it too, and ends with `close`."""

    def __init__(self, name: str, process: Process, log: ChildLog, bounds: Bounds) -> None:
        self.name = name
        self.listener: Listener | None = None
        self.open: dict[int, Exchange] = {}
        self._process = process
        self._log = log
        self._bounds = bounds
        self._ids = itertools.count(1)
        self._bad_lines = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._reader = asyncio.create_task(self._read())

    @property
    def process(self) -> Process:
        """The process that it stands on."""
        return self._process

    async def request(self, message: Message, line: bytes, exchange: Exchange) -> None:
        """Send a request; its answer comes through the exchange's outbox.

        Raises TooMany and UpstreamDown; then nothing was sent.
        """
        if len(self.open) >= self._bounds.pending:
            raise TooMany(
                f"server {self.name!r} has {len(self.open)} open requests, which is all that it may have",
                hint="wait for some to end, or give the server more replicas",
            )
        exchange.own_id = next(self._ids)
        self.open[exchange.own_id] = exchange
        exchange.token = jsonrpc.meta_of(message).get("progressToken")
        if exchange.token is None:
            sent = jsonrpc.with_id(line, message, exchange.own_id)
        else:
            sent = jsonrpc.dumps(jsonrpc.with_meta(message, "progressToken", exchange.own_id) | {"id": exchange.own_id})
        try:
            await self.send(sent)
        except UpstreamDown:
            self.forget(exchange)
            raise

    async def ask(self, method: str, params: Message, seconds: float) -> Message:
        """Send a request of our own and wait for the whole response. Raises TimeoutError and UpstreamDown."""
        message: Message = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
        exchange = Exchange(0, method, Outbox(1))
        await self.request(message, jsonrpc.dumps(message), exchange)
        try:
            answer = await exchange.outbox.next(seconds)
        finally:
            self.forget(exchange)
        return orjson.loads(answer or b"{}")

    async def send(self, line: bytes) -> None:
        """Write one message. Raises UpstreamDown when the process is gone or does not read."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._process.write(line + b"\n")
        except ConnectionError as fault:
            raise UpstreamDown(f"server {self.name!r} has just ended", hint="try again") from fault
        except TimeoutError as fault:
            raise UpstreamDown(f"server {self.name!r} does not read its input", hint="restart it") from fault

    def post(self, line: bytes) -> None:
        """Send one message without waiting; a process that is gone needs it no more."""
        task = asyncio.create_task(self._send_quietly(line))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def forget(self, exchange: Exchange) -> None:
        """Let go of an exchange; a late answer to it is dropped."""
        if self.open.pop(exchange.own_id, None) is not None and self.listener is not None:
            self.listener.finished(exchange)

    async def stop(self) -> None:
        """End the process at once; for a pipe that nobody took over."""
        await self._process.stop(0.2)

    async def _send_quietly(self, line: bytes) -> None:
        with contextlib.suppress(UpstreamDown):
            await self.send(line)

    async def _read(self) -> None:
        try:
            async for line in self._process.lines(self._bounds.line_bytes):
                self._received(line)
        except LineTooLong:
            self._log.write(f"a line of more than {self._bounds.line_bytes} bytes; the server is ended", "error")
        await self._process.kill()
        self._fail_open()
        if self.listener is not None:
            self.listener.closed(self)

    def _fail_open(self) -> None:
        for exchange in list(self.open.values()):
            fault = OutcomeUnknown(
                f"server {self.name!r} ended during the call (exit code {self._process.code})",
                hint="the call may have had its effect: look before you repeat it; the server's log tells why it ended",
            )
            exchange.outbox.close(jsonrpc.refused(exchange.client_id, fault))
            self.forget(exchange)

    def _received(self, line: bytes) -> None:
        try:
            parsed: Any = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._complain(line)
            return
        if isinstance(parsed, list):  # batches lived in 2025-03-26 only
            for part in parsed:  # pyright: ignore[reportUnknownVariableType]
                self._route(part, jsonrpc.dumps(part))
        else:
            self._route(parsed, line)

    def _route(self, message: Any, line: bytes) -> None:
        if not isinstance(message, dict):
            self._complain(line)
            return
        known: Message = message  # pyright: ignore[reportUnknownVariableType]
        if "method" not in known:
            self._answered(known, line)
        elif known["method"] == "notifications/progress":
            self._progressed(known)
        elif self.listener is None:
            if "id" in known:
                self.post(jsonrpc.error(known["id"], jsonrpc.METHOD_NOT_FOUND, "not before the handshake"))
        elif "id" in known:
            self.listener.asked(self, known)
        else:
            self.listener.notified(self, known, line)

    def _answered(self, message: Message, line: bytes) -> None:
        own = message.get("id")
        exchange = self.open.get(own) if type(own) is int else None
        if exchange is None or not ("result" in message or "error" in message):
            return  # late, or meant for nobody
        exchange.outbox.close(jsonrpc.with_id(line, message, exchange.client_id))
        self.forget(exchange)

    def _progressed(self, message: Message) -> None:
        own = jsonrpc.params_of(message).get("progressToken")
        exchange = self.open.get(own) if type(own) is int else None
        if exchange is not None and exchange.token is not None:
            exchange.outbox.put(jsonrpc.dumps(jsonrpc.with_param(message, "progressToken", exchange.token)))

    def _complain(self, line: bytes) -> None:
        if self._bad_lines % BAD_LINES_PER_ENTRY == 0:
            shown = line[:200].decode(errors="replace")
            self._log.write(
                f"stdout carries something other than JSON-RPC (line {self._bad_lines + 1}): {shown}", "warning"
            )
        self._bad_lines += 1
