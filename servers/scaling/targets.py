"""What can be scaled: the children of the platform's runner, seen and changed through the admin API."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from pydantic import BaseModel, Field

from servers.kit import Fault
from servers.platform import Platform


class Replicas(BaseModel):
    """A child of the runner and its replicas."""

    name: str
    kind: str = Field(default="", description="`stdio`, `http`, or a kind of engine.")
    state: str = Field(default="", description="idle, starting, running, backing-off or stopped.")
    reason: str = Field(default="", description="Why it is in that state, where there is something to say.")
    wanted: int = Field(default=0, description="Replicas that should run.")
    running: int = Field(default=0, description="Replicas that run now.")
    restarts: int = Field(default=0, description="Restarts after failures.")
    memory: float = Field(default=0, description="Memory of all replicas, as the runner reports it (bytes).")
    cpu: float = Field(default=0, description="CPU of all replicas, as the runner reports it (cores).")


async def replicas(platform: Platform) -> list[Replicas]:
    """Every child, by name. Raises Fault."""
    answer = await platform.request("GET", "/replicas")
    rows: object = answer.get("replicas", answer.get("children", []))
    if not isinstance(rows, list):
        raise Fault("The platform's list of replicas cannot be read.", code="platform-error", owner="administrator")
    found = [_read(cast("dict[str, Any]", row)) for row in cast("list[object]", rows) if isinstance(row, dict)]
    return sorted((child for child in found if child.name), key=lambda child: child.name)


async def replica(platform: Platform, child: str) -> Replicas:
    """One child. Raises Fault where there is none of that name."""
    for found in await replicas(platform):
        if found.name == child:
            return found
    raise Fault(f"Nothing named {child[:80]!r} can be scaled.", code="unknown-child", hint="Call list_replicas.")


async def set_replicas(platform: Platform, child: str, wanted: int) -> None:
    """Ask the platform for `wanted` replicas of `child`. Raises Fault."""
    await platform.request("PUT", f"/replicas/{quote(child, safe='')}", {"replicas": wanted})


def _read(row: dict[str, Any]) -> Replicas:
    known = {name: value for name, value in row.items() if name in Replicas.model_fields and value is not None}
    return Replicas.model_validate(known)
