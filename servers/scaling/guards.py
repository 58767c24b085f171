"""What a change of replicas must respect: known child, its bounds, and the time since its last change."""

from __future__ import annotations

from dataclasses import dataclass

from servers.kit import Fault


@dataclass(frozen=True)
class Bounds:
    """Replicas a child may have, and the seconds between two changes of it."""

    least: int = 0
    most: int = 8
    cool_down: float = 60.0


def check(child: str, wanted: int, bounds: Bounds, since_last: float | None) -> None:
    """Raise Fault where `wanted` replicas of `child` are not allowed now. `since_last`: seconds; None if never."""
    if not bounds.least <= wanted <= bounds.most:
        raise Fault(
            f"{child} may have {bounds.least} to {bounds.most} replicas, not {wanted}.",
            code="out-of-bounds",
            hint="Choose a number within the bounds; an administrator can move them (ENTREPOT_SCALING_MIN, _MAX).",
        )
    if since_last is not None and since_last < bounds.cool_down:
        left = bounds.cool_down - since_last
        raise Fault(
            f"{child} was scaled {since_last:.0f} s ago; the next change is possible in {left:.0f} s.",
            code="cooling-down",
            hint=f"Wait {left:.0f} s, then look at the replicas again before deciding.",
        )
