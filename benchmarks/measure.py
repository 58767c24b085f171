"""One window of load against one system, and rounds in which the systems take turns, so that ratios are paired."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import orjson
import psutil

from benchmarks import load, machine
from benchmarks.load import Load

QUIET = 0.15
"""Share of the CPUs in use that may go to other programs before a round counts as noisy."""


class WrongAnswers(Exception):
    """A system answered wrongly, so its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class System:
    """Something that takes load: its name in the tables and the process whose tree is charged (0: nobody's)."""

    name: str
    pid: int
    load: Load


@dataclass(frozen=True, slots=True)
class Window:
    """What one system did in one window; times in milliseconds, `cpu` per call, memory in megabytes."""

    calls: int
    rate: float
    p50: float
    p99: float
    cpu: float
    memory: float
    foreign: float
    longest: float = 0.0
    cores: float = 0.0


Round = dict[str, Window]


def window(system: System, cpus: list[int], ours: Iterable[int]) -> Window:
    """Load one system. `ours` are the processes that are no strangers on these CPUs. Raises `WrongAnswers`."""
    command = [sys.executable, "-m", "benchmarks.load"]
    child = subprocess.Popen(command, cwd=machine.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(load.dump(system.load))
        child.stdin.close()
        charged = machine.tree(system.pid) if system.pid else []
        known = {one.pid: one for pid in {*ours, child.pid, os.getpid()} for one in machine.tree(pid, without="")}
        if child.stdout.readline() != "begin\n":
            raise WrongAnswers(f"{system.name}: the load did not begin")
        before = _reading(charged, known.values(), cpus)
        child.stdout.readline()
        after = _reading(charged, known.values(), cpus)
        told = orjson.loads(child.stdout.readline() or "{}")
        memory = machine.memory_megabytes(charged)
    finally:
        if child.poll() is None:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)
    if not told or told["wrong"] or not told["calls"]:
        raise WrongAnswers(f"{system.name}: {told.get('first_wrong') or 'no call was answered'}")
    charge, known_use, busy = (late - early for early, late in zip(before, after, strict=True))
    foreign = max(0.0, busy - known_use) / (told["seconds"] * len(cpus))
    cpu = charge * 1000 / told["calls"]
    rate = told["calls"] / told["seconds"]
    return Window(
        told["calls"], rate, told["p50"], told["p99"], cpu, memory, foreign, told["longest"], charge / told["seconds"]
    )


def _reading(
    charged: Iterable[psutil.Process], known: Iterable[psutil.Process], cpus: list[int]
) -> tuple[float, float, float]:
    return machine.cpu_seconds(charged), machine.cpu_seconds(known), machine.busy_seconds(cpus)


def rounds(systems: list[System], wanted: int, cpus: list[int], ours: Iterable[int]) -> list[Round]:
    """`wanted` rounds; while other programs disturb, at most as many again, of which the quieter ones are kept."""
    kept: list[Round] = []
    people = list(ours)
    for number in range(wanted * 2):
        turn = systems[number % len(systems) :] + systems[: number % len(systems)]
        kept.append({one.name: window(one, cpus, people) for one in turn})
        if sum(noise(one) <= QUIET for one in kept) >= wanted:
            break
        if number + 1 >= wanted and min(map(noise, kept)) > 2 * QUIET:
            # A machine that is busy all along does not become quiet for us.
            break
    return sorted(kept, key=noise)[:wanted]


def noise(one: Round) -> float:
    """The largest share that strangers took in a round."""
    return max(window.foreign for window in one.values())


def middle(taken: list[Round], system: str, figure: str) -> float:
    """The median of one figure of one system."""
    return median(float(getattr(one[system], figure)) for one in taken)


def ratio(taken: list[Round], above: str, below: str, figure: str) -> float:
    """The median of per-round ratios, so that a slow minute weighs on both sides; 0 where there is nothing below."""
    found = [
        float(getattr(one[above], figure)) / float(getattr(one[below], figure))
        for one in taken
        if getattr(one[below], figure)
    ]
    return median(found) if found else 0.0


def added(taken: list[Round], above: str, below: str) -> float:
    """Milliseconds added at the median: the median of per-round differences."""
    return median(one[above].p50 - one[below].p50 for one in taken)


def plain(taken: list[Round]) -> list[Mapping[str, Mapping[str, float]]]:
    """As JSON has it."""
    return [
        {name: {key: getattr(value, key) for key in Window.__dataclass_fields__} for name, value in one.items()}
        for one in taken
    ]
