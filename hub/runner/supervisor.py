"""Wanted children against running ones: the set is kept on disk, and every change of it goes through here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hub.errors import NotFound
from hub.runner.child import Child, Place
from hub.runner.spec import ChildSpec, WantedFile

SWEEP_SECONDS = 5.0


class Supervisor:
    """Owner of all children of this runner."""

    def __init__(self, place: Place, file: WantedFile) -> None:
        self._place = place
        self._file = file
        self._children: dict[str, Child] = {}
        self._changing = asyncio.Lock()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up the kept set. Raises Unavailable when it cannot be read."""
        for name, spec in self._file.load().items():
            self._children[name] = Child(name, spec, self._place)
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """End every child; the wanted set stays on disk."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(child.close() for child in self._children.values()))

    def child(self, name: str) -> Child:
        """The wanted child. Raises NotFound."""
        child = self._children.get(name)
        if child is None:
            raise NotFound(f"the runner has no child {name!r}")
        return child

    def describe(self, of: Callable[[ChildSpec], bool] = lambda _: True) -> list[dict[str, Any]]:
        """The children of which `of` holds, by name."""
        return [child.describe() for _, child in sorted(self._children.items()) if of(child.spec)]

    async def want(self, name: str, spec: ChildSpec) -> Child:
        """Want this child; one of the same spec is left as it is, another one is ended first.

        A spec that does not say how many replicas leaves their number to whoever has set it.
        """
        async with self._changing:
            present = self._children.get(name)
            if present is not None:
                replicas = spec.replicas if "replicas" in spec.model_fields_set else present.spec.replicas
                spec = spec.model_copy(update={"replicas": replicas})
                if present.spec == spec.model_copy(update={"replicas": present.spec.replicas}):
                    return self._scaled(present, replicas)
            if present is not None:
                del self._children[name]
                await present.close()
            child = self._children[name] = Child(name, spec, self._place)
            self._save()
            return child

    async def forget(self, name: str) -> None:
        """End the child and want it no more. Returns when its processes are gone; raises NotFound."""
        async with self._changing:
            child = self.child(name)
            del self._children[name]
            self._save()
            await child.close()
            await asyncio.to_thread(child.erase)

    async def restart(self, name: str) -> None:
        """End the child; it starts again as its spec says. Raises NotFound."""
        async with self._changing:
            child = self.child(name)
            del self._children[name]
            await child.close()
            self._children[name] = Child(name, child.spec, self._place)

    async def scale(self, name: str, replicas: int) -> Child:
        """Set the number of replicas. Raises NotFound."""
        async with self._changing:
            return self._scaled(self.child(name), replicas)

    def _scaled(self, child: Child, replicas: int) -> Child:
        if child.spec.replicas != replicas:
            child.scale(replicas)
            self._save()
        return child

    def _save(self) -> None:
        self._file.save({name: child.spec for name, child in self._children.items()})

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for child in list(self._children.values()):
                await child.sweep()
