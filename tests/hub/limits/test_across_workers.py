"""Several workers and their coordinator over a real socket: one count for all, also when the coordinator dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import Counter as Tally
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from hub.catalog.limits import LimitSpec
from hub.errors import TooMany
from hub.ids import system_clock
from hub.limits.bounds import Bound, Quota, Rate, Slots
from hub.limits.leases import Counter, Leases
from hub.limits.limits import Limits
from hub.limits.link import Linked

pytestmark = pytest.mark.anyio

LIMIT = LimitSpec(name="test", rate="1/second").compiled()


@dataclass
class Worker:
    """A worker's side: its leases over a link of its own."""

    limits: Limits
    link: Linked

    def counter(self, bound: Bound, key: str = "k") -> Counter:
        return self.limits.leases.counter(key, bound, LIMIT, "somebody")

    async def call(self, counter: Counter) -> bool:
        """One call that is over at once, and whether it was let through."""
        try:
            await self.limits.take((counter,))
        except TooMany:
            return False
        self.limits.leases.release((counter,))
        return True


class Hub:
    """Some workers and the process that coordinates them."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.socket, self.ledger = folder / "limits.sock", folder / "quotas.jsonl"
        self._number = workers
        self.process: Process
        self.workers: list[Worker] = []

    async def start(self) -> None:
        told = ("--socket", str(self.socket), "--ledger", str(self.ledger), "--workers", str(self._number))
        self.process = await asyncio.create_subprocess_exec(sys.executable, "-m", "hub.limits", *told)

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def met(self) -> None:
        """Until every worker is connected."""
        for worker in self.workers:
            await worker.link.connected.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Hub]:
        await self.start()
        async with anyio.create_task_group() as group:
            for number in range(self._number):
                link = Linked(self.socket, str(number))
                leases = Leases(link, system_clock, time.monotonic, self._number)
                group.start_soon(link.run, leases.holdings, leases.recalled)
                group.start_soon(leases.run)
                self.workers.append(Worker(Limits(leases), link))
            try:
                with anyio.fail_after(20):
                    await self.met()
                    yield self
            finally:
                group.cancel_scope.cancel()
                if self.process.returncode is None:
                    await self.kill()


@contextlib.asynccontextmanager
async def hub(folder: Path, workers: int = 2) -> AsyncGenerator[Hub]:
    async with Hub(folder, workers).running() as running:
        yield running


async def test_a_quota_is_exact_whichever_worker_gets_the_calls(tmp_path: Path) -> None:
    async with hub(tmp_path, 3) as running:
        counters = [worker.counter(Quota(1000, "day")) for worker in running.workers]
        passed: Tally[int] = Tally()

        async def calls(place: int, many: int) -> None:
            for _ in range(many):
                passed[place] += await running.workers[place].call(counters[place])
                await asyncio.sleep(0)

        # One of them falls silent with a batch in hand; the others get that too.
        await asyncio.gather(calls(0, 200), calls(1, 900), calls(2, 900))
        assert sum(passed.values()) == 1000
        assert passed[0] == 200


async def test_a_rate_is_kept_within_one_in_a_hundred_by_saturated_workers(tmp_path: Path) -> None:
    async with hub(tmp_path) as running:
        bound = Rate(400, 200)
        began, passed = time.monotonic(), 0

        async def calls(worker: Worker) -> None:
            nonlocal passed
            counter = worker.counter(bound)
            while time.monotonic() < began + 2:
                passed += await worker.call(counter)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(calls(worker) for worker in running.workers for _ in range(4)))
        allowed = bound.burst + bound.per_second * (time.monotonic() - began)
        assert allowed * 0.98 - 4 <= passed <= allowed + 1


async def test_no_more_run_at_once_than_were_allowed_and_every_place_is_used(tmp_path: Path) -> None:
    async with hub(tmp_path) as running:
        counters = [worker.counter(Slots(4)) for worker in running.workers]
        inside, most = 0, 0

        async def call(place: int) -> None:
            nonlocal inside, most
            for _ in range(40):
                with contextlib.suppress(TooMany):
                    await running.workers[place].limits.take((counters[place],))
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0.002)
                    inside -= 1
                    running.workers[place].limits.leases.release((counters[place],))

        await asyncio.gather(*(call(place) for place in (0, 1) for _ in range(6)))
        assert most == 4
        # All places of an idle worker go to the one that needs them.
        for _ in range(4):
            await running.workers[0].limits.take((counters[0],))
        with pytest.raises(TooMany):
            await running.workers[1].limits.take((counters[1],))


async def test_a_refused_call_takes_nothing_from_the_other_limits_it_met(tmp_path: Path) -> None:
    async with hub(tmp_path) as running:
        worker = running.workers[0]
        wide, narrow = worker.counter(Quota(100, "day"), "wide"), worker.counter(Quota(1, "day"), "narrow")
        await worker.limits.take((wide, narrow))
        for _ in range(50):
            with pytest.raises(TooMany):
                await worker.limits.take((wide, narrow))
        assert sum([await worker.call(wide) for _ in range(200)]) == 99


async def test_calls_go_on_while_the_coordinator_is_killed_and_the_count_stays_right(tmp_path: Path) -> None:
    async with hub(tmp_path) as running:
        counters = [worker.counter(Quota(1000, "day")) for worker in running.workers]
        passed = 0
        for _ in range(100):
            for worker, counter in zip(running.workers, counters, strict=True):
                passed += await worker.call(counter)
        assert passed == 200
        await running.kill()
        away = 0
        for _ in range(40):
            for worker, counter in zip(running.workers, counters, strict=True):
                away += await worker.call(counter)
        assert away == 80
        await running.start()
        await asyncio.sleep(0)
        while not all(worker.link.connected.is_set() for worker in running.workers):
            await asyncio.sleep(0.01)
        passed += away
        for _ in range(1000):
            for worker, counter in zip(running.workers, counters, strict=True):
                passed += await worker.call(counter)
        assert 990 <= passed <= 1000


async def test_without_a_coordinator_all_workers_together_stay_below_a_limit(tmp_path: Path) -> None:
    async with hub(tmp_path) as running:
        await running.kill()
        passed: Tally[str] = Tally()
        for worker in running.workers:
            for key, bound in (("q", Quota(1000, "day")), ("s", Slots(2)), ("r", Rate(1, 2))):
                counter = worker.counter(bound, key)
                for _ in range(50):
                    with contextlib.suppress(TooMany):
                        await worker.limits.take((counter,))
                        passed[key] += 1
        assert 0 < passed["q"] <= 10
        assert passed["s"] == 2
        assert passed["r"] <= 2


async def test_a_killed_coordinator_and_all_killed_workers_cost_at_most_one_in_a_hundred(tmp_path: Path) -> None:
    bound = Quota(1000, "month")
    async with hub(tmp_path) as running:
        for worker in running.workers:
            counter = worker.counter(bound)
            assert all([await worker.call(counter) for _ in range(150)])
        await running.kill()
    async with hub(tmp_path) as again:
        worker = again.workers[0]
        counter = worker.counter(bound)
        left = sum([await worker.call(counter) for _ in range(900)])
        assert 690 <= left <= 700


async def test_a_socket_that_says_nonsense_is_hung_up_on_and_the_others_go_on(tmp_path: Path) -> None:
    async with hub(tmp_path) as running:
        for nonsense in (b"\xff\n", b"[]\n", b'["hello"]\n', b'["hello","9",[]]\n["ask",1,"k",["rate",-1,0],1,0,0]\n'):
            reader, writer = await asyncio.open_unix_connection(str(running.socket))
            writer.write(nonsense)
            assert await reader.read() == b""
            writer.close()
        worker = running.workers[0]
        assert await worker.call(worker.counter(Slots(1)))
