"""The pure planner: from signals to a number of replicas, with the reason. No clock, no I/O.

Like the Kubernetes autoscaler's rule (wanted = now * value / target, the largest wins), with a dead band so that
noise does not scale, one step down at a time, and never more than double at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from servers.scaling.guards import Bounds

TOLERANCE = 0.1
"""Part by which a signal may leave its target without any change."""


@dataclass(frozen=True)
class Signals:
    """What is known about a child's load; None where unknown. CPU: cores a replica uses; queue: calls that wait."""

    cpu: float | None = None
    queue: int | None = None
    idle_seconds: float | None = None


@dataclass(frozen=True)
class Targets:
    """What a replica should carry."""

    cpu: float = 0.7
    queue: int = 4
    idle_seconds: float = 900.0


@dataclass(frozen=True)
class Plan:
    """The proposed number and why."""

    replicas: int
    reason: str


def plan(current: int, signals: Signals, targets: Targets, bounds: Bounds, since_last: float | None) -> Plan:
    """How many replicas a child should have. `since_last`: seconds since its last change, None if never."""
    wanted, reason = _wanted(current, signals, targets)
    limited = max(bounds.least, min(bounds.most, wanted))
    if limited != wanted:
        reason += f"; limited to {bounds.least}..{bounds.most}"
    if limited != current and since_last is not None and since_last < bounds.cool_down:
        return Plan(current, f"cooling down for {bounds.cool_down - since_last:.0f} s more; then {limited}: {reason}")
    return Plan(limited, reason)


def _wanted(current: int, signals: Signals, targets: Targets) -> tuple[int, str]:
    waiting = signals.queue or 0
    if current == 0:
        return (1, f"{waiting} calls wait and nothing runs") if waiting else (0, "nothing runs and nothing waits")
    idle = signals.idle_seconds
    if idle is not None and idle >= targets.idle_seconds and not waiting:
        return 0, f"idle for {idle:.0f} s"
    ratios: list[tuple[float, str]] = []
    if signals.cpu is not None:
        ratios.append((signals.cpu / targets.cpu, f"CPU {signals.cpu:.2f} of {targets.cpu:.2f} cores a replica"))
    if signals.queue is not None:
        ratios.append((waiting / current / targets.queue, f"{waiting} calls wait, {targets.queue} a replica are fine"))
    if not ratios:
        return current, "no signal is known"
    ratio, reason = max(ratios)
    if abs(ratio - 1.0) <= TOLERANCE:
        return current, f"on target: {reason}"
    if ratio > 1.0:
        return min(math.ceil(current * ratio), current * 2), reason
    return max(math.ceil(current * ratio), current - 1, 1), reason
