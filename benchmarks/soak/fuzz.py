"""An hour's budget of drawn input: whole requests to a hub, servers' answers to its looks, and its pure functions.

All in this process, so that a step of the hub that takes long is seen as its CPU time, and a fault as its log line.
What is found is written to `fuzz-findings/`, to become a file of `tests/fuzz/corpus` once it is mended.
"""

from __future__ import annotations

import asyncio
import faulthandler
import hashlib
import logging
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.soak.scenario import Finding, Plan, Scenario
from hub.upstream.address import Wanted
from tests.fuzz.answers import Liar, called, looked_at, lying
from tests.fuzz.drive import Complaints, Fault, Gun, Report
from tests.fuzz.test_functions import DRAWS
from tests.support.hub import RunningHub, running_hub

FINDINGS = Path(__file__).parents[1] / "fuzz-findings"
HUNG_SECONDS = 300.0
"""After so long without a step of the loop every thread's stack is printed: that is a hang."""

SHARES = {"requests": 0.6, "calls": 0.15, "looks": 0.15, "functions": 0.1}

AT_ONCE = 12

IMPATIENT = {"call_seconds": 2, "list_seconds": 2, "idle_seconds": 2, "total_seconds": 6}
"""Deadlines of a hub whose server lies: most of what it does is to say nothing more."""


def run(plan: Plan) -> Sequence[Finding]:
    """The scenario."""
    logging.getLogger().handlers = []
    found: Counter[str] = Counter()
    report = asyncio.run(_requests(plan, found))
    calls = asyncio.run(_calls(plan, found))
    looks = asyncio.run(_looks(plan, found))
    rounds = _functions(plan, found)
    counted = ", ".join(f"{status}: {count:,}" for status, count in sorted(report.statuses.items()))
    kinds = "; ".join(f"{what} ({count})" for what, count in found.most_common(10)) or "none"
    return [
        Finding("requests to a hub", f"{report.shots:,}", "-", report.shots > 0),
        Finding(
            "answered (0: cut short, or no answer due)", counted, "no 5xx", not any(s >= 500 for s in report.statuses)
        ),
        Finding("calls of a tool whose server lies", f"{calls:,}", "-", calls > 0),
        Finding("looks at servers that lie", f"{looks:,}", "-", looks > 0),
        Finding("rounds of pure functions", f"{rounds:,}", "-", rounds > 0),
        Finding("crashes, hangs, 5xx, logged errors", kinds, "none", not found),
    ]


async def _requests(plan: Plan, found: Counter[str]) -> Report:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)

    def told(fault: Fault) -> None:
        _keep(found, "request", fault.what, fault.sent, f"seed {plan.seed} shot {fault.number}")

    async def watched() -> None:
        while True:
            faulthandler.dump_traceback_later(HUNG_SECONDS)
            await asyncio.sleep(10)

    watch = asyncio.create_task(watched())
    with tempfile.TemporaryDirectory(prefix="entrepot-fuzz-") as home:
        async with running_hub(Path(home)) as running:
            await running.everything()
            await running.everything("old", only="legacy")
            await running.everything("new", only="modern")
            gun = Gun(running.hub.settings.port, running.token, complaints)
            until = time.monotonic() + plan.seconds * SHARES["requests"]
            report = await gun.fire(plan.seed, until=until, told=told)
    watch.cancel()
    faulthandler.cancel_dump_traceback_later()
    return report


async def _calls(plan: Plan, found: Counter[str]) -> int:
    """Calls in both eras of a server of both, and of one, whose answers are drawn."""
    eras: tuple[Wanted, ...] = ("auto", "legacy", "modern")
    return sum([await _calls_of(plan, found, era, plan.seconds * SHARES["calls"] / len(eras)) for era in eras])


async def _calls_of(plan: Plan, found: Counter[str], era: Wanted, seconds: float) -> int:
    complaints, number = Complaints(), 0
    logging.getLogger().handlers = [complaints]
    until = time.monotonic() + seconds

    async def calling(hub: RunningHub, liar: Liar) -> None:
        nonlocal number
        while time.monotonic() < until:
            number += 1
            mine = f"{plan.seed}:{era}:{number}"
            for what in filter(None, (await called(hub, liar, number), complaints.take())):
                _keep(found, "call", re.sub(r"err_\w+", "err", what), mine.encode(), mine)

    rng = Random(f"{plan.seed}:{era}")
    with tempfile.TemporaryDirectory(prefix="entrepot-fuzz-") as home:
        async with lying(rng, honest=True) as liar, running_hub(Path(home), **IMPATIENT) as hub:
            await hub.register("liar", liar.url, era)
            liar.honest = False
            await asyncio.gather(*(calling(hub, liar) for _ in range(AT_ONCE)))
    return number


async def _looks(plan: Plan, found: Counter[str]) -> int:
    until, number = time.monotonic() + plan.seconds * SHARES["looks"], 0

    async def looking() -> None:
        nonlocal number
        while time.monotonic() < until:
            number += 1
            mine = f"{plan.seed}:{number}"
            if what := await looked_at(Random(mine)):
                _keep(found, "look", what, mine.encode(), mine)

    # Most of a look at a server that lies is waiting for what it does not say.
    await asyncio.gather(*(looking() for _ in range(AT_ONCE)))
    return number


def _functions(plan: Plan, found: Counter[str]) -> int:
    until, number = time.monotonic() + plan.seconds * SHARES["functions"], 0
    while time.monotonic() < until:
        number += 1
        for draw in DRAWS:
            began, mine = time.process_time(), f"{plan.seed}:{number}"
            try:
                draw(Random(mine))
            except Exception as error:  # noqa: BLE001 - which one it is, is the finding
                _keep(found, draw.__name__, f"{type(error).__name__}: {error}"[:300], mine.encode(), mine)
            if (spent := time.process_time() - began) > 1:
                _keep(found, draw.__name__, f"{spent:.1f} s of CPU", mine.encode(), mine)
    return number * len(DRAWS)


def _keep(found: Counter[str], where: str, what: str, sent: bytes, drawn: str) -> None:
    """Count a kind of finding; the first few of each are written down with what brought them about."""
    kind = f"{where}: {what[:100]}"
    found[kind] += 1
    if found[kind] > 3:
        return
    FINDINGS.mkdir(exist_ok=True)
    name = f"{where.replace(' ', '-')}-{hashlib.sha256(sent).hexdigest()[:12]}"
    (FINDINGS / f"{name}.bin").write_bytes(sent)
    (FINDINGS / f"{name}.txt").write_text(f"{what}\n{drawn}\n")


SCENARIO = Scenario("fuzz", "drawn requests, answers of servers and inputs of pure functions", run, minutes=60)
