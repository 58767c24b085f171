"""From a worker to the accounts: `Here` where there is one worker, `Linked` to the coordinator of several."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from hub.ids import Clock
from hub.limits.accounts import Accounts, Grant
from hub.limits.bounds import Bound, written
from hub.limits.leases import LinkDown
from hub.limits.ledger import Ledger

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between attempts to reach the coordinator, which is started again at once when it dies."""

LONGEST_LINE = 2**20
MOST_SHOWN = 100
ASK_SECONDS = 2.0
ALONE = "0"
"""How the only worker is called in its own accounts."""


class Here:
    """The accounts of a hub with one worker, in its own memory, with quotas on disk."""

    def __init__(self, ledger: Path, clock: Clock) -> None:
        self._clock = clock
        self._ledger = Ledger(ledger)
        self._accounts = Accounts(self._ledger.write)

    def load(self) -> None:
        """Read the quotas that were begun."""
        for line in self._ledger.load():
            self._accounts.restore(line.key, line.bound, line.begin, line.count, self._clock())

    def now(self, key: str, bound: Bound, want: int, begin: int, spent: int) -> Grant | None:
        """A grant at once."""
        moment = self._clock()
        self._accounts.settle(ALONE, key, begin, spent, 0, moment)
        return self._accounts.lend(ALONE, key, bound, want, moment, 1)

    async def ask(self, key: str, bound: Bound, want: int, begin: int, spent: int) -> Grant:
        """Never needed: `now` answers."""
        raise LinkDown("The accounts are in this process.")

    def give(self, key: str, begin: int, spent: int, back: int) -> bool:
        """Settle."""
        self._accounts.settle(ALONE, key, begin, spent, back, self._clock())
        return True

    async def usage(self, prefix: str) -> list[tuple[str, float]]:
        """What is used of the accounts whose key begins so."""
        return self._accounts.usage(prefix, MOST_SHOWN, self._clock())

    def close(self) -> None:
        """Give the file back."""
        self._ledger.close()


class Linked:
    """A connection to the coordinator, opened again whenever it breaks. `run` is its owner."""

    def __init__(self, socket: Path, worker: str) -> None:
        self._socket = socket
        self._worker = worker
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[list[Any]]] = {}
        self._numbers = itertools.count(1)
        self.connected = asyncio.Event()

    def now(self, key: str, bound: Bound, want: int, begin: int, spent: int) -> Grant | None:
        """Nothing is at hand here: ask."""
        return None

    async def ask(self, key: str, bound: Bound, want: int, begin: int, spent: int) -> Grant:
        """A grant. Raises `LinkDown` when the coordinator is away or went away."""
        told = await self._question("ask", key, written(bound), want, begin, spent)
        count, wait, start, until, left = told
        return Grant(int(count), float(wait), int(start), float(until), float(left))

    def give(self, key: str, begin: int, spent: int, back: int) -> bool:
        """Tell what was spent and bring the rest back; nobody waits for it."""
        return self._tell("give", key, begin, spent, back)

    async def usage(self, prefix: str) -> list[tuple[str, float]]:
        """What is used of the accounts whose key begins so. Raises `LinkDown`."""
        (found,) = await self._question("usage", prefix)
        return [(str(key), float(used)) for key, used in found]

    async def run(self, holdings: Callable[[], list[Any]], recalled: Callable[[str], tuple[int, int, int]]) -> None:
        """Stay connected: say at the beginning what is held, and give back what is recalled."""
        pause = FIRST_PAUSE
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=LONGEST_LINE)
            except OSError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._writer = writer
            try:
                self._tell("hello", self._worker, holdings())
                self.connected.set()
                while line := await reader.readline():
                    self._heard(orjson.loads(line), recalled)
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.warning("the coordinator of limits was lost: %r", error)
            finally:
                self._lost(writer)

    def _heard(self, message: list[Any], recalled: Callable[[str], tuple[int, int, int]]) -> None:
        match message:
            case ["recall", str(key)]:
                self._tell("gave", key, *recalled(key))
            case ["grant" | "usage", int(number), *rest]:
                answer = self._answers.pop(number, None)
                if answer is not None and not answer.done():
                    answer.set_result(rest)
            case _:
                raise ValueError("no message of a coordinator")

    async def _question(self, verb: str, *told: Any) -> list[Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            if not self._tell(verb, number, *told):
                raise LinkDown("The coordinator of limits is not running.", hint="It is started again by itself.")
            async with asyncio.timeout(ASK_SECONDS):
                return await answer
        except TimeoutError as error:
            raise LinkDown("The coordinator of limits does not answer.") from error
        finally:
            self._answers.pop(number, None)

    def _tell(self, *message: Any) -> bool:
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        return True

    def _lost(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        self.connected.clear()
        writer.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkDown("The coordinator of limits went away."))
        self._answers.clear()
