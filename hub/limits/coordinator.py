"""The coordinator of several workers: lends them calls out of the accounts over one local socket (design 8.5).

One JSON line a message. A worker says who it is and what it holds, then asks and settles; it is asked to give back
what it does not use when another worker is short. The process holds nothing that cannot be told to its successor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from hub.limits.accounts import Accounts, Grant
from hub.limits.bounds import Bound, read
from hub.limits.ledger import Ledger

log = logging.getLogger(__name__)

RECALL_SECONDS = 0.1
"""How long a worker that is short waits for what others give back."""

GATHER_SECONDS = 0.5
"""After a start, how long nothing is lent until every worker has said what it holds."""

LONGEST_LINE = 2**20
MOST_SHOWN = 100


class Worker:
    """One connected worker, as the coordinator sees it."""

    def __init__(self, name: str, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self._writer = writer
        self.recalls: dict[str, asyncio.Future[None]] = {}

    def tell(self, *message: Any) -> None:
        """Send one message; nobody waits for it to arrive."""
        self._writer.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    def recall(self, key: str) -> asyncio.Future[None]:
        """Ask for what it holds unspent of a key; done when it has answered."""
        waiting = self.recalls.get(key)
        if waiting is None:
            waiting = self.recalls[key] = asyncio.get_running_loop().create_future()
            self.tell("recall", key)
        return waiting

    def gave(self, key: str) -> None:
        """It answered a recall."""
        waiting = self.recalls.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class Coordinator:
    """Serves the workers of one installation. `run` is its owner."""

    def __init__(self, socket: Path, ledger: Ledger, expected: int) -> None:
        self._socket = socket
        self._ledger = ledger
        self._expected = expected
        self._accounts = Accounts(ledger.write)
        self._workers: dict[str, Worker] = {}
        self._complete = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        moment = time.time()
        for line in self._ledger.load():
            self._accounts.restore(line.key, line.bound, line.begin, line.count, moment)
        self._socket.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, str(self._socket), limit=LONGEST_LINE)
        finally:
            os.umask(before)
        asyncio.get_running_loop().call_later(GATHER_SECONDS, self._complete.set)
        async with server:
            await stop.wait()
        self._ledger.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker: Worker | None = None
        try:
            while line := await reader.readline():
                message = orjson.loads(line)
                if worker is None:
                    worker = self._greet(message, writer)
                else:
                    self._heard(worker, message)
        except (ValueError, TypeError, KeyError, OSError, asyncio.LimitOverrunError) as error:
            log.warning("worker %s was hung up on: %r", worker and worker.name, error)
        finally:
            if worker is not None and self._workers.get(worker.name) is worker:
                del self._workers[worker.name]
                self._accounts.leave(worker.name)
                for key in list(worker.recalls):
                    worker.gave(key)
            writer.close()

    def _greet(self, message: Sequence[Any], writer: asyncio.StreamWriter) -> Worker:
        """`["hello", name, [[key, bound, term, held, away, left], ...]]`."""
        _, name, holdings = message
        self._accounts.leave(str(name))
        worker = self._workers[str(name)] = Worker(str(name), writer)
        moment = time.time()
        for key, bound, begin, held, away, left in holdings:
            self._accounts.report(worker.name, key, read(bound), begin, held, away, left, moment)
        if len(self._workers) >= self._expected:
            self._complete.set()
        return worker

    def _heard(self, worker: Worker, message: Sequence[Any]) -> None:
        match message:
            case ["ask", number, key, bound, want, begin, spent]:
                moment = time.time()
                self._accounts.settle(worker.name, key, begin, spent, 0, moment)
                task = asyncio.create_task(self._answer(worker, number, key, read(bound), max(int(want), 1)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case ["give", key, begin, spent, back]:
                self._accounts.settle(worker.name, key, begin, spent, back, time.time())
            case ["gave", key, begin, spent, back]:
                self._accounts.settle(worker.name, key, begin, spent, back, time.time())
                worker.gave(key)
            case ["usage", number, prefix]:
                worker.tell("usage", number, self._accounts.usage(str(prefix), MOST_SHOWN, time.time()))
            case _:
                raise ValueError("no message of ours")

    async def _answer(self, worker: Worker, number: int, key: str, bound: Bound, want: int) -> None:
        if not self._complete.is_set():
            await self._complete.wait()
        grant = self._lend(worker, key, bound, want)
        if not grant.count:
            held_by = [
                self._workers[name] for name in self._accounts.holders(key, worker.name) if name in self._workers
            ]
            if held_by:
                # Not cancelled with the wait: another who is short may wait for the same answer.
                await asyncio.wait([one.recall(key) for one in held_by], timeout=RECALL_SECONDS)
                grant = self._lend(worker, key, bound, want)
        worker.tell("grant", number, grant.count, grant.wait, grant.term, grant.until, grant.left)

    def _lend(self, worker: Worker, key: str, bound: Bound, want: int) -> Grant:
        return self._accounts.lend(worker.name, key, bound, want, time.time(), len(self._workers))


async def serve(socket: Path, ledger: Path, expected: int) -> None:
    """Run a coordinator until this process is told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    await Coordinator(socket, Ledger(ledger), expected).run(stop)
