"""Finds tools for a caller: keeps an index of the snapshot in force, and its vectors, up to date in the background.

Nothing is built before somebody asks: a worker without search holds no index. Afterwards the index follows every
change; a question meets the last one that is whole, and the words alone where vectors are late or absent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import anyio.to_thread

from hub.catalog import search
from hub.catalog.publisher import Snapshots
from hub.catalog.search import TRUST_FLOOR, Asked, Index, Rows
from hub.catalog.snapshot import Era, Snapshot, Target
from hub.catalog.vectors import MODELS, Vectors
from hub.errors import HubError, Unavailable

log = logging.getLogger(__name__)

LONGEST_QUESTION = 2_000
"""Characters of a question that are read."""

BUILD_SECONDS = 20.0
"""How long the first question waits for the index (10,000 tools: three seconds)."""

CATCH_UP_SECONDS = 2.0
"""How long a question waits for an index that is behind the snapshot, then takes the one before."""

RETRY_SECONDS = 5.0
"""Between attempts to get vectors from an engine that failed; it may be starting."""

ERAS: tuple[Era, Era] = ("modern", "legacy")

INLINE = 1_000
"""Tools that are ranked on the spot; more are ranked in a thread."""

COMPLETE = 0.95
"""The share of tools that must have a model's vectors before its order is fair to all."""

MOST_KEPT = 512


@dataclass(frozen=True, slots=True)
class Found:
    """The tools found, best first, and by what."""

    targets: list[Target]
    by: str
    """`words`, or `words and meaning (MODEL)`."""


class Finder:
    """One per worker. `run` owns the background work."""

    def __init__(self, snapshots: Snapshots, vectors: Vectors) -> None:
        self._snapshots = snapshots
        self._vectors = vectors
        self._index: Index | None = None
        self._of: Snapshot | None = None
        self._indexed: tuple[Target, ...] = ()
        self._wanted = asyncio.Event()
        self._built = asyncio.Condition()
        self._kept: dict[tuple[object, ...], tuple[Rows, list[Target]]] = {}
        self._silent_until = 0.0

    @property
    def index(self) -> Index | None:
        """The index in use."""
        return self._index

    async def find(
        self,
        snapshot: Snapshot,
        of: tuple[object, ...],
        visible: Callable[[], Sequence[Target]],
        query: str,
        limit: int,
    ) -> Found:
        """The best of the tools that the caller may call; `of` says which those are, as long as the snapshot holds.

        Raises `Unavailable` when there is no index in time.
        """
        query = query[:LONGEST_QUESTION]
        index = await self._ready(snapshot)
        rows, held = self._rows(index, snapshot, of, visible)
        asked = await self._asked(index, query)
        if len(rows) <= INLINE:
            places = index.rank(query, rows, limit, asked)
        else:
            places = await anyio.to_thread.run_sync(index.rank, query, rows, limit, asked)
        by = f"words and meaning ({asked.meaning.model})" if asked is not None else "words"
        return Found([held[place] for place in places], by)

    async def settled(self) -> None:
        """Wait until the index is that of the catalog in force and has every vector."""
        self._wanted.set()
        async with self._built:
            await self._built.wait_for(
                lambda: self._index is not None and self._of is self._snapshots.current and self._whole(self._index)
            )

    async def run(self) -> None:
        """Follow the snapshots once somebody has asked, until cancelled."""
        await self._wanted.wait()
        changes = self._snapshots.subscribe()
        following = asyncio.create_task(self._follow())
        try:
            while True:
                await self._build()
                await anext(changes)
        finally:
            following.cancel()

    async def _build(self) -> None:
        snapshot = self._snapshots.current
        # Versions that are tried out too: one index serves every variant of the snapshot.
        tried = [one.parts[""].listed for one in snapshot.canaries.values() if "" in one.parts]
        every = (snapshot.views[""].listed, *tried)
        targets = tuple(one for listed in every for era in ERAS for one in listed.get((era, "tool"), ()))
        index = self._index
        if index is None or targets != self._indexed:
            fresh = await anyio.to_thread.run_sync(search.build, targets)
            # Until its own vectors are read, which is soon, the new index ranks by words.
            index = fresh
        async with self._built:
            self._index, self._of, self._indexed = index, snapshot, targets
            self._kept = {}
            self._built.notify_all()

    async def _follow(self) -> None:
        """Get the vectors that the present index lacks."""
        while True:
            async with self._built:
                await self._built.wait_for(lambda: self._index is not None and not self._whole(self._index))
                index = self._index
            assert index is not None
            try:
                for model in MODELS:
                    # What is stored serves at once, what is new takes its time.
                    await self._add(index, await self._vectors.kept(index, model), model)
                for model in MODELS:
                    await self._add(index, await self._vectors.fill(index, model), model)
            except HubError as error:
                log.info("no vectors for tool search: %s", error.message)
                await asyncio.sleep(RETRY_SECONDS)

    async def _add(self, index: Index, meaning: search.Meaning, model: str) -> None:
        async with self._built:
            current = self._index
            if current is None or current.documents is not index.documents:
                return
            self._index = replace(current, meanings={**current.meanings, model: meaning})
            self._built.notify_all()

    def _whole(self, index: Index) -> bool:
        return all(model in index.meanings and index.meanings[model].complete == 1.0 for model in MODELS)

    async def _ready(self, snapshot: Snapshot) -> Index:
        self._wanted.set()
        if self._index is None or self._of is not snapshot.origin:
            patience = BUILD_SECONDS if self._index is None else CATCH_UP_SECONDS
            try:
                async with asyncio.timeout(patience), self._built:
                    await self._built.wait_for(lambda: self._of is self._snapshots.current)
            except TimeoutError:
                log.warning("the index of tools is behind the catalog")
        if self._index is None:
            raise Unavailable("Tools cannot be searched yet", hint="Ask again in a few seconds.")
        return self._index

    def _rows(
        self, index: Index, snapshot: Snapshot, of: tuple[object, ...], visible: Callable[[], Sequence[Target]]
    ) -> tuple[Rows, list[Target]]:
        key = (snapshot.revision, snapshot.variant, *of)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            kept = self._kept[key] = index.rows(visible())
        return kept

    async def _asked(self, index: Index, query: str) -> Asked | None:
        """The question's vector by the model that is trusted most with its language, if one is there and answers."""
        ready = [one for one in index.meanings.values() if one.complete >= COMPLETE]
        best = max(ready, key=lambda one: self._vectors.trust(one.model, query), default=None)
        loop = asyncio.get_running_loop()
        if best is None or self._vectors.trust(best.model, query) < TRUST_FLOOR or loop.time() < self._silent_until:
            return None
        try:
            vector = await self._vectors.question(best.model, query)
        except HubError as error:
            log.info("a question goes without its vector: %s", error.message)
            self._silent_until = loop.time() + RETRY_SECONDS
            return None
        return Asked(best, vector, self._vectors.trust(best.model, query))
