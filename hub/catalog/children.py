"""The runner's children of the catalog: what the database holds decides which there are, whoever changed it last.

Several workers, and several requests in each, may change one server at once. So nobody orders the child that *they*
declared: they `settle` a name, which reads what is stored, orders that, and looks again whether it is still so.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import AsyncGenerator, Collection, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import anyio
import anyio.to_thread
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from hub.catalog import packages, store
from hub.catalog.manifest import ServerSpec
from hub.catalog.models import ServerRow, place_of
from hub.catalog.runner_client import STOP_SECONDS, RunnerClient
from hub.catalog.sealing import opened
from hub.db.engine import Database
from hub.errors import Conflict, HubError
from hub.ids import new_id
from hub.upstream.address import Address
from hub.vault.keyring import Keyring

log = logging.getLogger(__name__)

TRIAL = "try-"
"""Children that only exist while a declaration is tried out."""

FETCH_SECONDS = 180.0
"""For a package to be fetched and started for the first time, on a slow line."""

TRIAL_SECONDS = packages.INSTALL_SECONDS + 2 * FETCH_SECONDS + STOP_SECONDS
"""After this a trial is over, and its child was left behind by a worker that died."""

REST_SECONDS = 0.25
"""How long a child has to be without a call before it is ended: every worker sends its new calls elsewhere by then."""

DRAIN_SECONDS = 3600.0
"""How long the calls of a child that is given up may take: the total deadline of a call."""

SETTLE_ATTEMPTS = 5
SETTLED_AT_ONCE = 8


class Children:
    """What the catalog has the runner keep. One per worker."""

    def __init__(self, database: Database, runner: RunnerClient, keyring: Keyring, folder: Path) -> None:
        """`folder` is where packages are installed."""
        self._database = database
        self._runner = runner
        self._keyring = keyring
        self._folder = folder
        self._trials: dict[str, float] = {}
        self._strays: set[str] = set()
        self._drains: dict[str, asyncio.Task[None]] = {}

    def address(self, name: str) -> Address:
        """Where a child is reached."""
        return self._runner.address(name)

    @asynccontextmanager
    async def tried(self, spec: ServerSpec) -> AsyncGenerator[Address]:
        """A child for as long as a declaration is tried out, under a name of its own."""
        child = f"{TRIAL}{new_id(bits=50)}"
        try:
            await self._want(child, spec)
            yield self.address(child)
        finally:
            with anyio.move_on_after(STOP_SECONDS, shield=True):
                try:
                    await self._runner.forget(child)
                except HubError as error:
                    log.warning("child %s could not be stopped: %s", child, error.reason)
                await anyio.to_thread.run_sync(_remove_folder, self._folder / child)

    @asynccontextmanager
    async def added(self, spec: ServerSpec) -> AsyncGenerator[Address]:
        """The child of a server being added, warm for its first caller; after the block what is stored decides.

        Raises `Conflict` when a server of this name is being added by somebody else right now.
        """
        try:
            with self._claimed(spec.name) as mine:
                if not mine:
                    raise Conflict(f"Somebody else is adding a server {spec.name!r} right now.", hint="Look at theirs.")
                await self._want(spec.name, spec)
                yield self.address(spec.name)
        finally:
            with anyio.move_on_after(STOP_SECONDS, shield=True):
                await self.settle_later(spec.name)

    async def settle(self, name: str) -> None:
        """Have the runner keep exactly what is stored of a server. Raises what the runner or the package raises."""
        for _ in range(SETTLE_ATTEMPTS):
            row = await self._row(name)
            if row is not None and row.internal:
                return
            if _wants_child(row):
                await self._want(name, opened(row.declared, self._keyring))
            else:
                await self._forget(name)
            after = await self._row(name)
            if (row and row.declared) == (after and after.declared):
                return

    async def settle_later(self, name: str) -> str:
        """Settle now or, where that fails, with the next `reconcile`. Gives the reason of a failure, else nothing."""
        try:
            await self.settle(name)
        except HubError as error:
            log.warning("child %s is not as declared yet: %s", name, error.message)
            return error.message
        except (SQLAlchemyError, ValidationError) as error:
            log.warning("child %s is not as declared yet: %r", name, error)
            return "Its declaration could not be read."
        return ""

    async def reconcile(self, owned: Collection[str]) -> None:
        """Order every child that is stored, and end those that neither a server nor anybody in `owned` has.

        A child that is nobody's ends when it is met the second time, so that one who starts it has time to say whose
        it is. Never raises for a child, the runner or the database: the next time does what this one could not.
        """
        try:
            # Children first: one that is ordered is stored before, so a child without a row is nobody's.
            running = [str(child["name"]) for child in await self._runner.children()]
            rows = await anyio.to_thread.run_sync(store.servers, self._database)
        except (HubError, SQLAlchemyError) as error:
            log.warning("children could not be compared with the catalog: %r", error)
            return
        known = {place_of(row) for row in rows} | set(owned)
        names = {place_of(row) for row in rows if _wants_child(row)} - set(owned)
        names |= {place_of(row) for row in rows if not row.internal and place_of(row) in running} - set(owned)
        strays = {name for name in running if name not in known and not name.startswith(TRIAL)}
        names |= strays & self._strays
        self._strays = strays
        limit = anyio.CapacityLimiter(SETTLED_AT_ONCE)

        async def settle(name: str) -> None:
            async with limit:
                await self.settle_later(name)

        async with anyio.create_task_group() as group:
            for name in sorted(names):
                group.start_soon(settle, name)
            for name in self._overdue(running):
                group.start_soon(self._end_trial, name)

    async def _end_trial(self, name: str) -> None:
        try:
            await self._runner.forget(name)
        except HubError as error:
            log.warning("child %s could not be stopped: %s", name, error.reason)
        await anyio.to_thread.run_sync(_remove_folder, self._folder / name)

    def _overdue(self, running: Iterable[str]) -> list[str]:
        """Trials that have been seen for longer than any trial takes."""
        moment = anyio.current_time()
        self._trials = {name: self._trials.get(name, moment) for name in running if name.startswith(TRIAL)}
        return [name for name, seen in self._trials.items() if moment - seen >= TRIAL_SECONDS]

    async def close(self) -> None:
        """Stop waiting for children to come to rest; the next start ends them."""
        for task in self._drains.values():
            task.cancel()
        await asyncio.gather(*self._drains.values(), return_exceptions=True)

    async def _row(self, name: str) -> ServerRow | None:
        """The server whose child is called so."""
        rows = await anyio.to_thread.run_sync(store.servers, self._database)
        return next((row for row in rows if place_of(row) == name), None)

    async def _forget(self, name: str) -> None:
        """End a child that nobody has, at once where it is at rest; else its calls come to their end first."""
        if name in self._drains:
            return
        if await self._at_rest(name):
            await self._end(name)
            return
        task = self._drains[name] = asyncio.create_task(self._drained(name))
        task.add_done_callback(lambda _: self._drains.pop(name, None))

    async def _end(self, name: str) -> None:
        with self._claimed(name) as mine:
            # Whoever is adding a server of this name settles it at the end.
            if mine and not _wants_child(await self._row(name)):
                await self._runner.forget(name)

    async def _drained(self, name: str) -> None:
        """Wait for the calls of a child, then end it."""
        try:
            with anyio.move_on_after(DRAIN_SECONDS):
                while not await self._at_rest(name):
                    await asyncio.sleep(REST_SECONDS)
                    if _wants_child(await self._row(name)):
                        return
            await self._end(name)
        except (HubError, SQLAlchemyError) as error:
            log.warning("child %s could not be ended and is tried again: %r", name, error)

    async def _at_rest(self, name: str) -> bool:
        """Whether a child has no call, now and for a moment: one may be on its way from a worker."""
        for again in (True, False):
            child = next((one for one in await self._runner.children() if one.get("name") == name), None)
            if child is None or not child.get("running"):
                return True
            if child.get("busy"):
                return False
            if again:
                await asyncio.sleep(REST_SECONDS)
        return True

    @contextmanager
    def _claimed(self, name: str) -> Generator[bool]:
        """Whether the name is ours for the time of the block, among all workers; a worker that dies loses it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self._folder / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(file)

    async def _want(self, child: str, spec: ServerSpec) -> None:
        """Have the runner keep a child."""
        if spec.kind == "openapi":
            await self._runner.want(child, packages.openapi_child(spec))
            return
        folder = self._folder / child
        command = await anyio.to_thread.run_sync(packages.command_for, spec, folder)
        given = {name: value.get_secret_value() for name, value in spec.env.items()}
        folders, path = packages.shown_for(spec, command)
        wanted: dict[str, Any] = {
            "command": command,
            "env": packages.ENVIRONMENT | path | given,
            "sandbox": spec.sandbox,
            "folders": spec.folders | folders,
            "kind": "stdio",
            "isolation": spec.isolation,
            "start": "lazy",
            "start_seconds": FETCH_SECONDS,
        }
        if command[0].startswith(f"{folder}/"):
            # Installed by us, so the sandbox must be shown where.
            wanted["cwd"] = str(folder)
        await self._runner.want(child, wanted)


def is_child(declared: Mapping[str, Any]) -> bool:
    """Whether a stored declaration is of a server that the runner starts."""
    return bool(declared.get("command") or declared.get("package") or declared.get("openapi"))


def _wants_child(row: ServerRow | None) -> TypeGuard[ServerRow]:
    return row is not None and not row.internal and is_child(row.declared)


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
