"""The tools of the scaling server. Nothing changes unless the caller says `dry_run: false` and every guard agrees."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import anyio
import mcp_types as types
from pydantic import BaseModel, Field

from servers.kit import READS, Application, BundledServer, Environment, SettingsFault, Variable, main, our_version
from servers.platform import VARIABLES as PLATFORM
from servers.platform import Platform
from servers.scaling.guards import Bounds, check
from servers.scaling.planner import Signals, Targets, plan
from servers.scaling.targets import Replicas, replica, replicas, set_replicas

ABOUT = "See and change how many replicas of servers and engines run."
VARIABLES = (
    *PLATFORM,
    Variable("ENTREPOT_SCALING_MIN", "fewest replicas of a child, 0 to 100", "0"),
    Variable("ENTREPOT_SCALING_MAX", "most replicas of a child, 1 to 100", "8"),
    Variable("ENTREPOT_SCALING_COOL_DOWN_SECONDS", "time between two changes of a child, 0 to 86400", "60"),
)

Child = Annotated[str, Field(min_length=1, max_length=120, description="The child's name, from list_replicas.")]


class ReplicaList(BaseModel):
    """Everything that can be scaled."""

    replicas: list[Replicas]


class Proposal(BaseModel):
    """What the planner proposes; nothing was changed."""

    child: str
    current: int = Field(description="Replicas wanted now.")
    proposed: int = Field(description="Replicas it should have.")
    reason: str
    least: int = Field(description="Fewest allowed.")
    most: int = Field(description="Most allowed.")


class Scaled(BaseModel):
    """The change, made or (dry run) only checked."""

    child: str
    before: int
    after: int
    changed: bool = Field(description="False in a dry run, or where nothing had to change.")
    message: str


class Scaling:
    """The tools; remembers when each child was last changed, for the cool-down."""

    def __init__(self, platform: Platform, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._platform = platform
        self._bounds = bounds
        self._clock = clock
        self._changed: dict[str, float] = {}
        self._one_at_a_time = anyio.Lock()

    def _since_last(self, child: str) -> float | None:
        at = self._changed.get(child)
        return None if at is None else self._clock() - at

    async def list_replicas(self) -> ReplicaList:
        """List."""
        return ReplicaList(replicas=await replicas(self._platform))

    async def get_replicas(self, child: Child) -> Replicas:
        """Get."""
        return await replica(self._platform, child)

    async def plan_scaling(
        self,
        child: Child,
        queue: Annotated[int | None, Field(ge=0, le=1_000_000, description="Calls that wait, if you know.")] = None,
        idle_seconds: Annotated[
            float | None, Field(ge=0, le=31_536_000, description="Seconds since the last call, if you know.")
        ] = None,
        target_cpu: Annotated[float, Field(gt=0, le=64, description="Cores a replica should use at most.")] = 0.7,
        target_queue: Annotated[int, Field(ge=1, le=10_000, description="Waiting calls a replica may have.")] = 4,
    ) -> Proposal:
        """Plan."""
        found = await replica(self._platform, child)
        cpu = found.cpu / found.running if found.running else None
        made = plan(
            found.wanted,
            Signals(cpu, queue, idle_seconds),
            Targets(target_cpu, target_queue),
            self._bounds,
            self._since_last(child),
        )
        return Proposal(
            child=child,
            current=found.wanted,
            proposed=made.replicas,
            reason=made.reason,
            least=self._bounds.least,
            most=self._bounds.most,
        )

    async def scale(
        self,
        child: Child,
        replicas: Annotated[int, Field(ge=0, le=100, description="Replicas it should have; 0 stops it.")],
        dry_run: Annotated[
            bool, Field(description="True (the default) only checks whether it is allowed; false changes it.")
        ] = True,
    ) -> Scaled:
        """Scale."""
        async with self._one_at_a_time:
            found = await replica(self._platform, child)
            before = found.wanted
            if before == replicas:
                return Scaled(child=child, before=before, after=before, changed=False, message="Nothing to change.")
            check(child, replicas, self._bounds, self._since_last(child))
            if dry_run:
                message = f"Allowed. Call again with dry_run: false to go from {before} to {replicas}."
                return Scaled(child=child, before=before, after=replicas, changed=False, message=message)
            # From here on the change may have happened even if the answer is lost: the cool-down begins before it.
            self._changed[child] = self._clock()
            await set_replicas(self._platform, child, replicas)
            message = f"{child} goes from {before} to {replicas}."
            return Scaled(child=child, before=before, after=replicas, changed=True, message=message)


def application(environment: Environment, clock: Callable[[], float] = time.monotonic) -> Application:
    """The scaling server, set up from `environment`. Raises SettingsFault."""
    bounds = Bounds(
        environment.number("ENTREPOT_SCALING_MIN", 0, 0, 100),
        environment.number("ENTREPOT_SCALING_MAX", 8, 1, 100),
        environment.number("ENTREPOT_SCALING_COOL_DOWN_SECONDS", 60, 0, 86_400),
    )
    if bounds.least > bounds.most:
        raise SettingsFault("ENTREPOT_SCALING_MIN is greater than ENTREPOT_SCALING_MAX.")
    scaling = Scaling(Platform.from_environment(environment), bounds, clock)
    server = BundledServer("scaling", title="Scaling", description=ABOUT, version=our_version())
    server.add_tool(
        scaling.list_replicas,
        title="List replicas",
        description="Every server and engine whose replicas can be changed: state, wanted and running, restarts, load.",
        annotations=READS,
    )
    server.add_tool(
        scaling.get_replicas,
        title="Replicas of one child",
        description="State, replicas, restarts, memory and CPU of one server or engine.",
        annotations=READS,
    )
    server.add_tool(
        scaling.plan_scaling,
        title="Plan replicas",
        description=(
            "Propose how many replicas one child should have, with the reason, from its CPU and the waiting calls or "
            "idle time you pass. Changes nothing; follow with `scale` if the user agrees."
        ),
        annotations=READS,
    )
    server.add_tool(
        scaling.scale,
        title="Change replicas",
        description=(
            "Set how many replicas one child has, within its bounds and after its cool-down. By default a dry run: "
            "pass dry_run: false only when the user wants the change. 0 stops the child."
        ),
        annotations=types.ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    return Application(server)


def run() -> int:
    """Serve until the transport ends. Returns the exit code."""
    return main("scaling", ABOUT, VARIABLES, application)
