"""One wanted child: its command made into processes, its face over HTTP, its state for those who ask.

A `stdio` child is a Bridge; an `http` child is replicas that listen on sockets of their own, served in turn.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from hub.errors import HubError, UpstreamDown
from hub.runner.bridge import Bridge, NotModern
from hub.runner.childlog import ChildLog
from hub.runner.http import problem
from hub.runner.process import NETWORK, Process, Usage, passed_on, plain_environment
from hub.runner.relay import HttpPeer, accepts, relay
from hub.runner.replica import Replica
from hub.runner.sandbox.base import Bind, Launch, Sandbox
from hub.runner.sandbox.profiles import SERVER
from hub.runner.spec import Bounds, ChildSpec

CACHE = Path("/cache")
CACHES = {
    "XDG_CACHE_HOME": str(CACHE),
    "npm_config_cache": str(CACHE / "npm"),
    "npm_config_update_notifier": "false",
    "UV_CACHE_DIR": str(CACHE / "uv"),
    "PIP_CACHE_DIR": str(CACHE / "pip"),
}
"""What a package runner fetched is kept for the next start: per child, so that none can poison another's."""


@dataclass(frozen=True)
class Place:
    """Where children of this runner live."""

    sockets: Path
    logs: Path
    caches: Path
    """What sandboxed children keep from one start to the next."""
    packages: Path
    """Packages that the hub installed, each in a folder of its own."""
    sandbox: Sandbox
    starts: asyncio.Semaphore
    bounds: Bounds


class Face(Protocol):
    """How a child is reached and kept."""

    @property
    def replicas(self) -> Sequence[Replica[Any]]:
        """Every process slot."""
        ...

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...

    async def warm(self) -> None:
        """Start before the first use."""
        ...

    def scale(self, wanted: int) -> None:
        """Set the number of replicas."""
        ...

    async def sweep(self, idle_before: float | None) -> None:
        """Stop what is not used."""
        ...

    async def close(self) -> None:
        """End every process."""
        ...


class Child:
    """Owner of the face and the log of one wanted child."""

    def __init__(self, name: str, spec: ChildSpec, place: Place) -> None:
        self.name = name
        self.spec = spec
        self._place = place
        self._cache = place.caches / name
        self._log = ChildLog(place.logs, name, spec.env.values())
        self._face: Face = (
            Bridge(name, spec, self._start, self._log, place.starts, place.bounds)
            if spec.kind == "stdio"
            else HttpFace(name, spec, self._start, place)
        )
        self._keeper: asyncio.Task[None] | None = None
        if spec.start == "now" and spec.isolation == "shared":
            self._keeper = asyncio.create_task(self._keep())

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to `/s/{name}{path}`, starting the child if need be."""
        await self._face.serve(path, scope, receive, send)

    async def sweep(self) -> None:
        """Stop what nobody has used for long; a child that starts at once is never idle."""
        before = None if self.spec.start == "now" else time.monotonic() - self.spec.idle_seconds
        await self._face.sweep(before)

    def scale(self, replicas: int) -> None:
        """Set the number of replicas."""
        self.spec = self.spec.model_copy(update={"replicas": replicas})
        self._face.scale(replicas)

    async def close(self) -> None:
        """End everything. Returns when no process of it is left."""
        if self._keeper is not None:
            self._keeper.cancel()
        await self._face.close()
        self._log.close()

    def erase(self) -> None:
        """Remove what it kept from one start to the next. Blocks."""
        shutil.rmtree(self._cache, ignore_errors=True)

    def describe(self) -> dict[str, Any]:
        """The entry of `GET /children`."""
        replicas = self._face.replicas
        running = [process for replica in replicas if (process := replica.process) is not None]
        states = {replica.state for replica in replicas}
        usages: list[Usage] = [process.usage() for process in running]
        order = ("running", "starting", "backing-off", "stopped")
        return {
            "name": self.name,
            "kind": self.spec.kind,
            "state": next((state for state in order if state in states), "idle"),
            "reason": next((replica.reason for replica in replicas if replica.reason), ""),
            "wanted": self.spec.replicas,
            "running": len(running),
            "busy": sum(replica.busy for replica in replicas),
            "pids": [pid for usage in usages for pid in usage.pids],
            "restarts": sum(replica.restarts for replica in replicas),
            "started": min((process.started for process in running), default=None),
            "memory": sum(usage.memory for usage in usages),
            "cpu": sum(usage.cpu for usage in usages),
        }

    async def _start(self, extra: Sequence[str] = (), folder: Path | None = None) -> Process:
        launch = self._launch([*self.spec.command, *extra], folder)
        return await Process.start(launch, self._log, merged=self.spec.kind == "http")

    def _launch(self, argv: list[str], folder: Path | None) -> Launch:
        if self.spec.sandbox == "trusted":
            cwd = Path(self.spec.cwd) if self.spec.cwd else None
            return Launch(argv=tuple(argv), env=plain_environment(self.spec.env), cwd=cwd)
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        binds = [Bind(self._cache, CACHE, writable=True), *self._package(argv[0])]
        if folder is not None:
            binds.append(Bind(folder, folder, writable=True))
        for path, right in self.spec.folders.items():
            binds.append(Bind(Path(path), Path(path), writable=right != "read", granted=right == "write"))
        cwd = Path(self.spec.cwd) if self.spec.cwd else None
        if cwd is not None:
            binds.append(Bind(cwd, cwd, writable=True))
        env = passed_on(NETWORK) | CACHES | self.spec.env
        try:
            return self._place.sandbox.launch(argv, profile=SERVER, env=env, binds=binds, cwd=cwd)
        except HubError as fault:
            self._log.write(f"not started: {fault.message}. {fault.hint}", "warning")
            raise UpstreamDown(f"server {self.name!r} cannot be started: {fault.message}", hint=fault.hint) from fault

    def _package(self, program: str) -> list[Bind]:
        """The one installed package that the program belongs to; the folder of all of them stays hidden."""
        path, packages = Path(program), self._place.packages
        if not path.is_relative_to(packages) or ".." in path.parts:
            return []
        root = packages / path.relative_to(packages).parts[0]
        return [Bind(root, root)]

    async def _keep(self) -> None:
        while True:
            pause = 0.5
            try:
                await self._face.warm()
                processes = [process for replica in self._face.replicas if (process := replica.process) is not None]
                waits = [asyncio.create_task(process.ended.wait()) for process in processes]
                if waits:
                    await asyncio.wait(waits, timeout=5, return_when=asyncio.FIRST_COMPLETED)
                    for wait in waits:
                        wait.cancel()
                    pause = 0.05
            except (UpstreamDown, NotModern) as fault:
                self._log.write(f"not started: {fault}", "warning")
                pause = 2.0
            await asyncio.sleep(pause)


class HttpFace:
    """Replicas of an `http` child behind one path; a request goes to the one with the fewest open."""

    def __init__(self, name: str, spec: ChildSpec, start: Any, place: Place) -> None:
        self._name = name
        self._spec = spec
        self._start = start
        self._place = place
        self._turn = 0
        self._made = 0
        self._replicas: list[Replica[HttpPeer]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self.scale(spec.replicas)

    @property
    def replicas(self) -> list[Replica[HttpPeer]]:
        """Every process slot."""
        return self._replicas

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request to a replica."""
        try:
            if not self._replicas:
                raise UpstreamDown(f"server {self._name!r} is scaled to no replica", hint="give it at least one")
            self._turn += 1
            order = range(len(self._replicas))
            chosen = min(order, key=lambda at: (self._replicas[at].busy, (at + self._turn) % len(order)))
            async with self._replicas[chosen].borrowed() as peer:
                await relay(self._name, peer, path, scope, receive, send)
        except HubError as fault:
            await problem(send, fault)

    async def warm(self) -> None:
        """Start every replica. Raises UpstreamDown."""
        await asyncio.gather(*(replica.open() for replica in self._replicas))

    def scale(self, wanted: int) -> None:
        """Add replicas, or end the last ones."""
        while len(self._replicas) < wanted:
            self._made += 1
            self._replicas.append(Replica(self._name, self._opener(self._made), self._place.starts))
        while len(self._replicas) > wanted:
            task = asyncio.create_task(self._replicas.pop().close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def sweep(self, idle_before: float | None) -> None:
        """Stop replicas that have been idle since `idle_before`."""
        for replica in self._replicas:
            if idle_before is not None and replica.alive and not replica.busy and replica.last_used < idle_before:
                await replica.close(final=False)

    async def close(self) -> None:
        """End every replica."""
        await asyncio.gather(*(replica.close() for replica in self._replicas), *self._closing)
        for folder in self._place.sockets.glob(f"{self._stem}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _stem(self) -> str:
        return "c" + hashlib.sha256(self._name.encode()).hexdigest()[:12]

    def _opener(self, number: int) -> Any:
        async def open_peer() -> HttpPeer:
            folder = self._place.sockets / f"{self._stem}-{number}"
            folder.mkdir(mode=0o700, exist_ok=True)
            socket = folder / "s"
            socket.unlink(missing_ok=True)
            peer = HttpPeer(await self._start(["--uds", str(socket)], folder), socket)
            try:
                if await accepts(peer, self._spec.start_seconds):
                    return peer
            except BaseException:
                await asyncio.shield(peer.process.stop())
                raise
            await peer.process.stop()
            raise UpstreamDown(
                f"server {self._name!r} does not listen on its socket (exit code {peer.process.code})",
                hint="its last words are in data.stderr",
                data={"stderr": peer.process.last_words()},
            )

        return open_peer
