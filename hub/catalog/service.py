"""The only writer of the catalog: every change is checked, probed, stored in one transaction and then published.

A change is acknowledged when this worker serves it and `announce` has told the others (design §8.4). Whoever calls
has been admitted already; each change is recorded in the audit under the principal that asked for it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import orjson
from pydantic import ValidationError

from hub import net
from hub.audit.recorder import Audit
from hub.catalog import discovery, packages, rendering, store
from hub.catalog.discovery import Definition, Found, Look
from hub.catalog.manifest import CollectionSpec, Declaration, ServerSpec
from hub.catalog.models import CollectionRow, ServerRow
from hub.catalog.naming import Names
from hub.catalog.publisher import ERAS, Curated, Offer, Publisher, Snapshots
from hub.catalog.runner_client import STOP_SECONDS, RunnerClient
from hub.catalog.sealing import difference, opened, sealed
from hub.catalog.snapshot import Era, Server
from hub.db.engine import Database
from hub.errors import Conflict, HubError, InvalidParams, NotFound, UpstreamTimeout
from hub.identity.principal import Principal
from hub.ids import new_id, now
from hub.upstream.address import Address, Wanted
from hub.vault.keyring import Keyring

log = logging.getLogger(__name__)

THE_HUB = Principal("service:hub", "the hub itself", "service")
"""Who changes the catalog when nobody asked: start-up, list changes of servers."""

TRIAL = "try-"
"""Children that only exist while a declaration is tried out."""

PROBES_AT_ONCE = 8
"""A file with a hundred stdio servers must not start a hundred processes at once."""

CLAIM_ATTEMPTS = 5

FETCH_SECONDS = 180.0
"""For a package to be fetched and started for the first time, on a slow line."""


async def _tell_nobody() -> None:
    """A hub of one worker has nobody to tell."""


async def _typed_by_an_administrator(url: str) -> None:
    """Only the form is judged: the origin that an administrator typed may be private (design §8.3).

    What the server then redirects to is never followed, and URLs that it names go through `hub.net` unexempted.
    """
    try:
        net.origin_of(url)
    except net.UrlRefused as error:
        raise InvalidParams(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Planned:
    """One server of an `apply`: what would be done with it."""

    action: str
    spec: ServerSpec
    diff: Mapping[str, Any]

    def shown(self) -> dict[str, Any]:
        return {"action": self.action, "kind": "server", "name": self.spec.name, "diff": dict(self.diff)}


class Catalog:
    """What is declared and approved. One per worker; `load` first."""

    def __init__(
        self,
        database: Database,
        look: Look,
        snapshots: Snapshots,
        runner: RunnerClient,
        keyring: Keyring,
        audit: Audit,
        *,
        package_folder: Path,
        announce: Callable[[], Awaitable[None]] = _tell_nobody,
        check_url: Callable[[str], Awaitable[None]] = _typed_by_an_administrator,
        publisher: Publisher | None = None,
    ) -> None:
        """`check_url` raises for a URL that may not be reached; `announce` tells the other workers."""
        self._database = database
        self._look = look
        self._snapshots = snapshots
        self._runner = runner
        self._keyring = keyring
        self._audit = audit
        self._package_folder = package_folder
        self._announce = announce
        self._check_url = check_url
        self._publisher = publisher or Publisher()
        self._writing = anyio.Lock()
        self._loading = anyio.Lock()
        self._stored = store.Stored((), {}, {}, (), 0)
        self._names = Names({}, {}, {})

    # What is there

    def list(self) -> list[dict[str, Any]]:
        """All servers, in the order of registration."""
        return [rendering.server(row, self._stored.definitions[row.name]) for row in self._stored.servers]

    def show(self, name: str) -> dict[str, Any]:
        """One server with the names it is exposed under. Raises `NotFound`."""
        row = self._known(name)
        items = self._stored.definitions[name]
        shown = rendering.exposed(name, items, self._names) if row.enabled else []
        return rendering.server(row, items) | {"exposed": shown}

    def definitions(self, name: str) -> list[dict[str, Any]]:
        """What a server offers, as it said it. Raises `NotFound`."""
        self._known(name)
        return rendering.definitions(name, self._stored.definitions[name], self._names)

    def collections(self) -> list[dict[str, Any]]:
        """All collections, by name."""
        return [rendering.collection(row) for row in self._stored.collections]

    @property
    def revision(self) -> int:
        """Counts every change; equal on all workers that serve the same."""
        return self._stored.revision

    # Changes

    async def load(self) -> None:
        """Read everything from the database and publish it: at the start, and when another worker changed something.

        Asks no server anything, so it takes well under a second with all of them down.
        """
        async with self._loading:
            for _ in range(CLAIM_ATTEMPTS):
                stored = await anyio.to_thread.run_sync(store.read, self._database)
                offers = [self._offer(row, stored.definitions[row.name]) for row in stored.servers if row.enabled]
                names = await anyio.to_thread.run_sync(self._publisher.names, offers, stored.owned)
                if await anyio.to_thread.run_sync(store.claim, self._database, names.claims):
                    break
            else:
                raise Conflict("Other workers keep claiming the same names.", hint="Try again.")
            curated = [Curated(row.name, tuple(row.members)) for row in stored.collections]
            snapshot = await anyio.to_thread.run_sync(self._publisher.build, offers, curated, names, stored.revision)
            self._stored, self._names = stored, names
            self._snapshots.swap(snapshot)

    async def add(self, principal: Principal, spec: ServerSpec, *, dry_run: bool = False) -> dict[str, Any]:
        """Probe a server, store it and what it offers, and show what callers will see. A dry run stores nothing.

        Raises `Conflict` for a name that is taken, and what the probe raises for a server that cannot be used.
        """
        with self._audit.recording("server:add", principal, server=spec.name) as record:
            self._refuse_taken(spec.name)
            row, found = await self._probed(spec, None, keep_child=not dry_run)
            if dry_run:
                shown = self._preview(row, found)
            else:
                async with self._kept_child(spec):
                    await self._commit(store.Edit(servers=(row,), found={spec.name: found}), fresh=(spec.name,))
                shown = self.show(spec.name)
            record.outcome = "ok"
            record.detail = f"{'dry run: ' if dry_run else ''}{spec.kind} {spec.address}"[:500]
        return shown

    async def change(self, principal: Principal, spec: ServerSpec) -> dict[str, Any]:
        """Declare a known server anew; it is probed first. Raises `NotFound`, or what the probe raises."""
        self._known(spec.name)
        await self.apply(principal, Declaration(servers=[spec]))
        return self.show(spec.name)

    async def remove(self, principal: Principal, name: str, *, release_names: bool = False) -> None:
        """Forget a server and stop its child. Its names stay reserved for it unless they are released.

        Raises `NotFound`, or `Conflict` for a server of the hub's own.
        """
        with self._audit.recording("server:remove", principal, server=name) as record:
            row = self._known(name)
            if row.internal:
                raise Conflict(f"{name} belongs to the hub and cannot be removed.")
            await self._commit(store.Edit(removed_servers=(name,), release_names=release_names))
            if _is_child(row.declared):
                await self._runner.forget(name)
            record.outcome = "ok"

    async def refresh(self, principal: Principal, name: str) -> dict[str, Any]:
        """Look at a server again. When it is down its last good definitions stay, and the state says why.

        Raises `NotFound`; a server that fails is an answer, not an error.
        """
        with self._audit.recording("server:refresh", principal, server=name) as record:
            row = self._known(name)
            edit = await self._looked_at(row)
            if edit is not None:
                await self._commit(edit)
            told = self._known(name)
            record.outcome = "ok"
            record.detail = "; ".join([told.state, *([told.reason] if told.reason else []), *_said(edit, name)])[:2000]
        return self.show(name)

    async def apply(self, principal: Principal, declaration: Declaration, *, dry_run: bool = False) -> dict[str, Any]:
        """Bring servers and collections into the declared form, all or nothing; entries not named stay as they are.

        A dry run says what would change and probes nothing. Raises what the first failing probe raises.
        """
        with self._audit.recording("apply", principal) as record:
            planned = [self._planned(spec) for spec in declaration.servers]
            sets = [(self._collection_change(spec), spec) for spec in declaration.collections]
            changes = [plan.shown() for plan in planned] + [change for change, _ in sets]
            due = [plan for plan in planned if plan.action != "none"]
            changed_sets = tuple(_collection_row(spec) for change, spec in sets if change["action"] != "none")
            if not dry_run and (due or changed_sets):
                await self._carry_out(due, changed_sets)
            record.outcome = "ok"
            told = [f"{change['action']} {change['kind']} {change['name']}" for change in changes]
            record.detail = f"{'dry run: ' if dry_run else ''}{len(told)} declared: {', '.join(told)}"[:2000]
        return {"changes": changes, "applied": not dry_run}

    async def put_collection(self, principal: Principal, spec: CollectionSpec) -> dict[str, Any]:
        """Make or change a collection."""
        with self._audit.recording("collection:change", principal, target=spec.name) as record:
            if self._collection_change(spec)["action"] != "none":
                await self._commit(store.Edit(collections=(_collection_row(spec),)))
            record.outcome = "ok"
        return rendering.collection(_collection_row(spec))

    async def remove_collection(self, principal: Principal, name: str) -> None:
        """Forget a collection. Raises `NotFound`."""
        with self._audit.recording("collection:change", principal, target=name) as record:
            if all(row.name != name for row in self._stored.collections):
                raise NotFound(f"There is no collection {name!r}.")
            await self._commit(store.Edit(removed_collections=(name,)))
            record.outcome = "ok"

    async def register_internal(
        self, name: str, address: Address, *, title: str = "", description: str = "", era: Wanted = "auto"
    ) -> None:
        """Have a server of the hub's own (bundled, agents) in the catalog; not looked at here: `refresh` does that.

        Raises `Conflict` when a person has registered a server under this name.
        """
        present = next((row for row in self._stored.servers if row.name == name), None)
        if present is not None and not present.internal:
            raise Conflict(f"The name {name!r} is taken by a server that was registered by hand.", hint="Remove it.")
        declared = {"name": name, "url": address.url, "socket": address.socket, "era": era}
        if present and (present.declared, present.title, present.description) == (declared, title, description):
            return
        row = _copied(present) if present else ServerRow(name=name, internal=True)
        row.declared, row.title, row.description, row.changed = declared, title, description, now()
        await self._commit(store.Edit(servers=(row,)))

    async def remove_internal(self, name: str) -> None:
        """Forget a server of the hub's own, as when an upgrade no longer brings it."""
        if any(row.name == name and row.internal for row in self._stored.servers):
            await self._commit(store.Edit(removed_servers=(name,)))

    async def restore_children(self) -> None:
        """Tell the runner of every stdio server again, as after the loss of its own list. Failures are logged."""
        for row in self._stored.servers:
            if _is_child(row.declared):
                try:
                    await self._want(row.name, opened(row.declared, self._keyring))
                except HubError as error:
                    log.warning("server %s could not be given to the runner: %s", row.name, error.reason)

    # Inside

    async def _commit(self, edit: store.Edit, *, fresh: Sequence[str] = ()) -> None:
        """Store, publish, tell the others. `fresh` names must not have appeared since they were checked."""
        async with self._writing:
            for name in fresh:
                self._refuse_taken(name)
            await anyio.to_thread.run_sync(store.write, self._database, edit)
            await self.load()
        await self._announce()

    async def _carry_out(self, due: Sequence[_Planned], collections: tuple[CollectionRow, ...]) -> None:
        results: dict[str, tuple[ServerRow, Found]] = {}
        limit = anyio.CapacityLimiter(PROBES_AT_ONCE)
        failures: list[HubError] = []

        async def probe(plan: _Planned) -> None:
            async with limit:
                try:
                    present = self._known(plan.spec.name) if plan.action == "update" else None
                    results[plan.spec.name] = await self._probed(plan.spec, present, keep_child=False)
                except HubError as error:
                    error.message = f"{plan.spec.name}: {error.message}"
                    error.args = (error.message,)
                    failures.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for plan in due:
                group.start_soon(probe, plan)
        if failures:
            raise failures[0]
        rows = tuple(results[plan.spec.name][0] for plan in due)
        found = {name: result[1] for name, result in results.items()}
        new = [plan.spec.name for plan in due if plan.action == "create"]
        had_children = {row.name for row in self._stored.servers if _is_child(row.declared)}
        await self._commit(store.Edit(servers=rows, found=found, collections=collections), fresh=new)
        for plan in due:
            if plan.spec.is_child:
                await self._want(plan.spec.name, plan.spec)
            elif plan.spec.name in had_children:
                await self._runner_forgets(plan.spec.name)

    async def _probed(
        self, spec: ServerSpec, present: ServerRow | None, *, keep_child: bool
    ) -> tuple[ServerRow, Found]:
        """Look at a server as declared; nothing is stored."""
        async with self._reachable(
            spec, spec.name if keep_child else f"{TRIAL}{new_id(bits=50)}", keep_child
        ) as address:
            found = await self._look_patiently(address, spec.era, child=spec.is_child)
        row = _copied(present) if present else ServerRow(name=spec.name)
        row.title, row.description = spec.title, spec.description
        row.declared = sealed(spec, self._keyring)
        row.changed = now()
        before = self._stored.definitions.get(spec.name, ()) if present else ()
        _note(row, found, rendering.changes(before, found.definitions) if present else [])
        return row, found

    @asynccontextmanager
    async def _reachable(self, spec: ServerSpec, child: str, keep: bool) -> AsyncGenerator[Address]:
        """An address to look at. A child started for it is stopped again, unless it is kept and the look succeeds."""
        for url in (spec.url, spec.openapi, spec.base_url):
            if url is not None:
                await self._check_url(url)
        if not spec.is_child:
            yield _http_address(spec)
            return
        keep_it = False
        try:
            await self._want(child, spec)
            yield self._runner.address(child)
            keep_it = keep
        finally:
            if not keep_it:
                await self._runner_forgets(child)
                if child.startswith(TRIAL):
                    await anyio.to_thread.run_sync(_remove_folder, self._package_folder / child)

    @asynccontextmanager
    async def _kept_child(self, spec: ServerSpec) -> AsyncGenerator[None]:
        """The child of a server being added; it goes again when the server is not stored after all."""
        try:
            yield
        except BaseException:
            if spec.is_child and all(row.name != spec.name for row in self._stored.servers):
                await self._runner_forgets(spec.name)
            raise

    async def _runner_forgets(self, child: str) -> None:
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            try:
                await self._runner.forget(child)
            except HubError as error:
                log.warning("child %s could not be stopped: %s", child, error.reason)

    async def _want(self, child: str, spec: ServerSpec) -> None:
        """Have the runner keep a child."""
        if spec.kind == "openapi":
            await self._runner.want(child, packages.openapi_child(spec))
            return
        folder = self._package_folder / (child if child.startswith(TRIAL) else spec.name)
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

    async def _look_patiently(self, address: Address, wanted: Wanted, *, child: bool) -> Found:
        """A look at a server; a child gets more time than one answer may take, for it may still be fetching itself."""
        with anyio.move_on_after(FETCH_SECONDS):
            while child:
                try:
                    return discovery.read(await self._look(address, wanted))
                except UpstreamTimeout as error:
                    log.info("%s is still starting: %s", address.url, error.message)
        return discovery.read(await self._look(address, wanted))

    async def _looked_at(self, row: ServerRow) -> store.Edit | None:
        """What a new look at a registered server brings; None when there is nothing to write."""
        changed = _copied(row)
        try:
            if row.internal:
                address = self._address(row)
            else:
                spec = opened(row.declared, self._keyring)
                if spec.is_child:
                    await self._want(row.name, spec)
                else:
                    await self._check_url(spec.url or "")
                address = self._address(row)
            wanted = cast("Wanted", row.declared.get("era", "auto"))
            found = await self._look_patiently(address, wanted, child=_is_child(row.declared))
        except HubError as error:
            if (row.state, row.reason) == ("down", error.message):
                return None
            changed.state, changed.reason = "down", error.message
            return store.Edit(servers=(changed,))
        before = self._stored.definitions[row.name]
        said = rendering.changes(before, found.definitions)
        _note(changed, found, said)
        if found.definitions != before:
            changed.changed = now()
            return store.Edit(servers=(changed,), found={row.name: found})
        # The list is the same; a write is worth it for the moment of the look, and for a state that changed.
        return store.Edit(servers=(changed,))

    def _preview(self, row: ServerRow, found: Found) -> dict[str, Any]:
        offers = [self._offer(known, self._stored.definitions[known.name]) for known in self._stored.servers]
        offers.append(self._offer(row, found.definitions))
        names = self._publisher.names(offers, self._stored.owned)
        shown = rendering.exposed(row.name, found.definitions, names)
        return rendering.server(row, found.definitions) | {"exposed": shown}

    def _planned(self, spec: ServerSpec) -> _Planned:
        present = next((row for row in self._stored.servers if row.name == spec.name), None)
        if present is None:
            self._refuse_taken(spec.name)
            return _Planned("create", spec, difference(None, spec))
        if present.internal:
            raise Conflict(f"{spec.name} belongs to the hub and cannot be declared.")
        try:
            before = opened(present.declared, self._keyring)
        except (HubError, ValidationError):
            # Sealed with a key that is lost, or by rules that have changed: declaring it anew is the way out.
            return _Planned("update", spec, difference(None, spec))
        diff = difference(before, spec)
        return _Planned("update" if diff else "none", spec, diff)

    def _collection_change(self, spec: CollectionSpec) -> dict[str, Any]:
        present = next((row for row in self._stored.collections if row.name == spec.name), None)
        wanted = rendering.collection(_collection_row(spec))
        before = rendering.collection(present) if present else {}
        diff = {
            key: {"from": before.get(key), "to": value} for key, value in wanted.items() if before.get(key) != value
        }
        action = "create" if present is None else "update" if diff else "none"
        return {"action": action, "kind": "collection", "name": spec.name, "diff": diff}

    def _offer(self, row: ServerRow, items: tuple[Definition, ...]) -> Offer:
        said: dict[Era, Mapping[str, Any]] = {era: row.facts[era] for era in ERAS if era in row.facts}
        address = self._address(row)
        server = Server(
            name=row.name,
            address=address,
            digest=_registration_digest(row.declared, address),
            eras=frozenset(said),
            capabilities={era: facts["capabilities"] for era, facts in said.items()},
            info={era: facts["info"] for era, facts in said.items()},
            instructions={era: facts["instructions"] for era, facts in said.items() if facts["instructions"]},
            internal=row.internal,
        )
        return Offer(server, items)

    def _address(self, row: ServerRow) -> Address:
        transport = "sse" if row.facts.get("transport") == "sse" else "http"
        if row.internal:
            return Address(row.declared["url"], socket=row.declared.get("socket", ""), transport=transport)
        if _is_child(row.declared):
            return self._runner.address(row.name)
        try:
            return _http_address(opened(row.declared, self._keyring), transport)
        except (HubError, ValidationError) as error:
            # Listed without its credential rather than not at all: its own refusal will say what is missing.
            log.warning("the declaration of server %s could not be opened: %s", row.name, error)
            return Address(str(row.declared.get("url") or ""), transport=transport)

    def _known(self, name: str) -> ServerRow:
        row = next((row for row in self._stored.servers if row.name == name), None)
        if row is None:
            raise NotFound(f"There is no server {name!r}.", hint="List what there is with `entrepot servers list`.")
        return row

    def _refuse_taken(self, name: str) -> None:
        if name.startswith(TRIAL):
            raise InvalidParams(f"Names that begin with {TRIAL!r} are the hub's own.")
        if any(row.name == name for row in self._stored.servers):
            raise Conflict(f"There is a server {name!r} already.", hint="Choose another name, or remove it first.")


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _http_address(spec: ServerSpec, transport: Any = "http") -> Address:
    headers = tuple((name, value.get_secret_value()) for name, value in spec.headers.items())
    return Address(spec.url or "", transport=transport, headers=headers)


def _note(row: ServerRow, found: Found, changes: Sequence[str]) -> None:
    """Write down what a successful look found."""
    kept = list(changes) or list(row.facts.get("changes", []))
    row.facts = rendering.facts(found) | {"changes": kept}
    row.eras = [era for era in ERAS if era in found.facts]
    row.discovered = now()
    row.state, row.reason = "ready", ""
    if found.problems:
        row.state = "degraded"
        row.reason = f"{len(found.problems)} left out: {found.problems[0]}"
    elif not found.definitions:
        row.reason = "It answers, but offers no tools, prompts or resources."


def _copied(row: ServerRow) -> ServerRow:
    """A row to edit: those in memory are shared with readers."""
    return ServerRow.model_validate(row.model_dump())


def _collection_row(spec: CollectionSpec) -> CollectionRow:
    return CollectionRow(name=spec.name, title=spec.title, description=spec.description, members=list(spec.members))


def _is_child(declared: Mapping[str, Any]) -> bool:
    return bool(declared.get("command") or declared.get("package") or declared.get("openapi"))


def _registration_digest(declared: Mapping[str, Any], address: Address) -> str:
    """Changes whenever connections made for the registration before must not be used any more."""
    text = orjson.dumps([declared, address.url, address.socket, address.transport], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


def _said(edit: store.Edit | None, name: str) -> list[str]:
    return list(edit.servers[0].facts.get("changes", [])) if edit is not None and name in edit.found else []
