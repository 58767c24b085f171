"""The only writer of the catalog: every change is checked, probed, stored in one transaction and then published.

A change is acknowledged when this worker serves it and `announce` has told the others (design §8.4). Whoever calls
has been admitted already; each change is recorded in the audit under the principal that asked for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import orjson
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from hub import net
from hub.audit.recorder import Audit
from hub.catalog import discovery, rendering, store
from hub.catalog import terms as termed
from hub.catalog.canary import rules_of
from hub.catalog.children import FETCH_SECONDS, TRIAL, Children, is_child
from hub.catalog.discovery import Definition, Found, Look
from hub.catalog.limits import Limit, LimitSpec
from hub.catalog.manifest import CollectionSpec, Declaration, ServerSpec
from hub.catalog.models import CollectionRow, LimitRow, ServerRow, place_of
from hub.catalog.naming import Names
from hub.catalog.publisher import ERAS, Change, Curated, Offer, Publisher, Snapshots, Trial, compared
from hub.catalog.runner_client import RunnerClient
from hub.catalog.sealing import TERMS, difference, opened, sealed
from hub.catalog.snapshot import Era, Kind, Mode, Server, Snapshot, Track
from hub.db.engine import Database
from hub.errors import Conflict, HubError, InvalidParams, NotFound, UpstreamTimeout
from hub.identity.principal import Principal
from hub.ids import now
from hub.upstream.address import Address, Survey, Wanted
from hub.upstream.terms import Terms
from hub.vault.keyring import Keyring

log = logging.getLogger(__name__)

THE_HUB = Principal("service:hub", "the hub itself", "service")
"""Who changes the catalog when nobody asked: start-up, list changes of servers."""

PROBES_AT_ONCE = 8
"""A file with a hundred stdio servers must not start a hundred processes at once."""

CLAIM_ATTEMPTS = 5


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


@dataclass(frozen=True, slots=True)
class _Read:
    """All that a load brings, ready to be put in force."""

    stored: store.Stored
    names: Names
    offers: Mapping[str, Offer]
    snapshot: Snapshot
    change: Change


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
        terms: Terms | None = None,
    ) -> None:
        """`check_url` raises for a URL that may not be reached; `announce` tells the other workers."""
        self._database = database
        self._look = look
        self._snapshots = snapshots
        self._children = Children(database, runner, keyring, package_folder)
        self._keyring = keyring
        self._audit = audit
        self._announce = announce
        self._check_url = check_url
        self._publisher = publisher or Publisher()
        self._terms = terms or Terms()
        self._writing = anyio.Lock()
        self._loading = anyio.Lock()
        self._stored = store.NOTHING
        self._names = Names({}, {}, {})
        self._offers: Mapping[str, Offer] = {}
        self._rows: Mapping[str, ServerRow] = {}
        """What those offers were made of."""
        self._rendered: dict[str, tuple[ServerRow, Mapping[str, Any]]] = {}

    # What is there

    def list(self) -> list[dict[str, Any]]:
        """All servers, in the order of registration."""
        return [
            {**self._render(row), "canary": next(iter(self._canaries(row.name)), None)}
            for row in self._stored.servers
            if not row.canary_of
        ]

    def state(self, name: str) -> str:
        """How a server does, in one word; empty for one that is not there."""
        return next((row.state for row in self._stored.servers if row.name == name), "")

    def looked_after(self) -> list[ServerRow]:
        """All servers, versions that are tried out included, as they are stored."""
        return list(self._stored.servers)

    def show(self, name: str) -> dict[str, Any]:
        """One server with the names it is exposed under. Raises `NotFound`."""
        row = self._known(name)
        items = self._definitions(name)
        shown = rendering.exposed(name, items, self._names) if row.enabled else []
        canary = self.canary_of(name)
        return {**self._render(row), "exposed": shown, "canary": canary and canary.name}

    def row(self, name: str) -> ServerRow:
        """A server as it is stored; not to be edited. Raises `NotFound`."""
        return self._known(name)

    def canary_of(self, name: str) -> ServerRow | None:
        """The version of a server that is being tried out, as it is stored."""
        return next((row for row in self._stored.servers if row.canary_of == name), None)

    def offered(self, name: str) -> tuple[Definition, ...]:
        """The definitions of a server, or of a version that is tried out."""
        return self._definitions(name)

    def counts(self, name: str) -> Mapping[Kind, int]:
        """How many definitions of each kind there are."""
        return self._stored.counts.get(name, {})

    def _canaries(self, name: str) -> list[str]:
        return [row.name for row in self._stored.servers if row.canary_of == name]

    def declared(self, name: str) -> tuple[ServerSpec | None, Address]:
        """A server as it was declared, with its secrets (None: one of the hub's own), and where it is reached.

        Raises `NotFound`, and `Conflict` or `InvalidParams` for a declaration that can no longer be read.
        """
        row = self._known(name)
        if row.internal:
            return None, self._address(row)
        try:
            return opened(row.declared, self._keyring), self._address(row)
        except ValidationError as error:
            raise Conflict("Its declaration does not fit this version", hint="Declare it anew.") from error

    def reached(self, spec: ServerSpec) -> AbstractAsyncContextManager[Address]:
        """Where a server that is not stored can be looked at; a child of it lives as long as the block."""
        return self._reachable(spec)

    def definitions(self, name: str) -> list[dict[str, Any]]:
        """What a server offers, as it said it. Raises `NotFound`."""
        self._known(name)
        return rendering.definitions(name, self._definitions(name), self._names)

    def collections(self) -> list[dict[str, Any]]:
        """All collections, by name."""
        return [rendering.collection(row) for row in self._stored.collections]

    def limits(self) -> list[dict[str, Any]]:
        """All limits, by name."""
        return [dict(row.declared) for row in self._stored.limits]

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
            # In one thread from end to end: what is left for the event loop is to put it in force.
            read = await anyio.to_thread.run_sync(self._read)
            self._stored, self._names, self._offers = read.stored, read.names, read.offers
            self._rows = {row.name: row for row in read.stored.servers}
            self._rendered = {name: shown for name, shown in self._rendered.items() if name in read.stored.counts}
            self._snapshots.swap(read.snapshot, read.change)

    def _read(self) -> _Read:
        """What is stored, as a snapshot. What did not change since the last time is neither read nor built again."""
        stored = self._stored
        for _ in range(CLAIM_ATTEMPTS):
            read = store.read(self._database, stored)
            trials = self._trials(read)
            tried = {one.offer.server.name for one in trials}
            offers = {
                row.name: self._offer(row, read.definitions[row.name], "stable" if row.name in tried else "")
                for row in read.servers
                if row.enabled and not row.canary_of
            }
            names = self._publisher.names(list(offers.values()), read.owned, trials)
            claimed = store.claim(self._database, read, names.claims)
            if claimed is not None:
                break
            # Another worker named something meanwhile: what was read of the rest still holds.
            stored = read
        else:
            raise Conflict("Other workers keep claiming the same names.", hint="Try again.")
        curated = [
            Curated(row.name, tuple(row.members), cast("Mode", row.mode), tuple(row.pinned), row.client)
            for row in read.collections
        ]
        snapshot = self._publisher.build(list(offers.values()), curated, names, read.revision, trials)
        snapshot = replace(snapshot, limits=self._limits_of(read.limits))
        change = compared(self._snapshots.current, snapshot)
        offers |= {one.offer.server.place: one.offer for one in trials}
        return _Read(claimed, names, offers, snapshot, change)

    async def add(self, principal: Principal, spec: ServerSpec, *, dry_run: bool = False) -> dict[str, Any]:
        """Probe a server, store it and what it offers, and show what callers will see. A dry run stores nothing.

        Raises `Conflict` for a name that is taken, and what the probe raises for a server that cannot be used.
        """
        with self._audit.recording("server:add", principal, server=spec.name) as record:
            self._refuse_taken(spec.name)
            async with self._reachable(spec, keep=not dry_run) as address:
                row, found = await self._probed(spec, None, address)
                if not dry_run:
                    edit = store.Edit(servers=(row,), found={spec.name: found}, fresh=(spec.name,))
                    await self._commit(edit)
            shown = self._preview(row, found) if dry_run else self.show(spec.name)
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
            gone = (row, *([canary] if (canary := self.canary_of(name)) else []))
            names = tuple(one.name for one in gone)
            await self._commit(store.Edit(removed_servers=names, release_names=release_names))
            await self.settle(*(place_of(one) for one in gone if is_child(one.declared)))
            record.outcome = "ok"

    async def refresh(self, principal: Principal, name: str) -> dict[str, Any]:
        """Look at a server again. When it is down its last good definitions stay, and the state says why.

        Only what was seen is written, and only of the declaration that was looked at: a change that somebody makes
        during the look stands. Raises `NotFound`, also for a server that was removed meanwhile; a server that fails
        is an answer, not an error.
        """
        with self._audit.recording("server:refresh", principal, server=name) as record:
            canary = self.canary_of(name)
            if canary is not None:
                await self._commit(store.Edit(observed=(await self._looked_at(canary))[0]))
            observed, said = await self._looked_at(self._known(name))
            await self._commit(store.Edit(observed=observed))
            told = self._known(name)
            record.outcome = "ok"
            record.detail = "; ".join([told.state, *([told.reason] if told.reason else []), *said])[:2000]
        return self.show(name)

    async def look_again(self, name: str) -> None:
        """As `refresh`, by the hub itself: stored and recorded only when something is not as it was.

        A server that stays down for a night would otherwise fill the audit with the same sentence.
        """
        row = self._stored_row(name)
        observed, said = await self._looked_at(row)
        same_facts = not observed.facts or all(observed.facts.get(era) == row.facts.get(era) for era in ERAS)
        if (observed.state, observed.reason) == (row.state, row.reason) and same_facts and not said:
            return
        with self._audit.recording("server:refresh", THE_HUB, server=name) as record:
            await self._commit(store.Edit(observed=observed))
            record.outcome = "ok"
            record.detail = "; ".join([observed.state, *([observed.reason] if observed.reason else []), *said])[:2000]

    async def apply(self, principal: Principal, declaration: Declaration, *, dry_run: bool = False) -> dict[str, Any]:
        """Bring servers and collections into the declared form, all or nothing; entries not named stay as they are.

        A dry run says what would change and probes nothing. Raises what the first failing probe raises.
        """
        with self._audit.recording("apply", principal) as record:
            planned = [self._planned(spec) for spec in declaration.servers]
            sets = [(self._collection_change(spec), spec) for spec in declaration.collections]
            limits = [(self._limit_change(spec), spec) for spec in declaration.limits]
            changes = [plan.shown() for plan in planned] + [change for change, _ in sets]
            changes += [change for change, _ in limits]
            due = [plan for plan in planned if plan.action != "none"]
            beside = store.Edit(
                collections=tuple(_collection_row(spec) for change, spec in sets if change["action"] != "none"),
                limits=tuple(_limit_row(spec) for change, spec in limits if change["action"] != "none"),
            )
            if not dry_run and (due or beside != store.Edit()):
                await self._carry_out(due, beside)
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

    async def put_limit(self, principal: Principal, spec: LimitSpec) -> dict[str, Any]:
        """Make or change a limit. What was counted stays counted."""
        with self._audit.recording("limit:change", principal, target=spec.name) as record:
            if self._limit_change(spec)["action"] != "none":
                await self._commit(store.Edit(limits=(_limit_row(spec),)))
            record.outcome = "ok"
        return dict(_limit_row(spec).declared)

    async def remove_limit(self, principal: Principal, name: str) -> None:
        """Forget a limit. Raises `NotFound`."""
        with self._audit.recording("limit:change", principal, target=name) as record:
            if all(row.name != name for row in self._stored.limits):
                raise NotFound(f"There is no limit {name!r}.", hint="`entrepot limits list` shows what there is.")
            await self._commit(store.Edit(removed_limits=(name,)))
            record.outcome, record.detail = "ok", "removed"

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

    async def mark(self, name: str, state: str, reason: str) -> bool:
        """Note how a server does, as its callers found it; nothing is looked at. Whether that was news.

        Raises `NotFound`.
        """
        row = self._known(name)
        # A server that is down stays so in whatever words: looks and pings name it differently, and taking turns they
        # would make a change of the catalog, and a record, out of every check.
        if (row.state, row.reason) == (state, reason) or row.state == state == "down":
            return False
        await self._commit(store.Edit(observed=store.Observed(name, row.declared, now(), state, reason)))
        return True

    async def reconcile(self, owned: Collection[str] = ()) -> None:
        """Have the runner keep exactly the children that are declared. `owned` names the hub's own, which stay.

        Never raises: what fails is logged, and the next time does it.
        """
        await self._children.reconcile(owned)

    async def stale(self) -> bool:
        """Whether another worker has stored a change that this one has not loaded; one short query, never raises.

        False also while the database is away: nothing could be loaded then.
        """
        async with self._loading:
            try:
                return await anyio.to_thread.run_sync(store.revision, self._database) != self._stored.revision
            except SQLAlchemyError:
                return False

    async def settle(self, *places: str) -> None:
        """Have the runner keep what is stored of these children, and let the others' calls come to their end."""
        for place in places:
            await self._children.settle_later(place)

    async def close(self) -> None:
        """Stop what goes on beside the calls of this."""
        await self._children.close()

    async def commit(self, edit: store.Edit) -> None:
        """Store, publish, tell the others: for the roll-outs, which stand beside this."""
        await self._commit(edit)

    async def tried(self, spec: ServerSpec) -> tuple[ServerRow, Found]:
        """Probe a version of a server; nothing is stored, and a child of it lives as long as that takes."""
        async with self._reachable(spec) as address:
            return await self._probed(spec, None, address)

    async def _commit(self, edit: store.Edit) -> None:
        """Store, publish, tell the others."""
        async with self._writing:
            if not await anyio.to_thread.run_sync(store.write, self._database, edit):
                self._note_moment(edit.observed)
                return
            await self.load()
        await self._announce()

    def _note_moment(self, observed: store.Observed | None) -> None:
        """Know when a server was last looked at, where nothing else changed: not worth publishing everything anew."""
        if observed is None or observed.facts is None:
            return
        rows = list(self._stored.servers)
        for index, row in enumerate(rows):
            if row.name == observed.server:
                rows[index] = _copied(row)
                rows[index].discovered = observed.looked
        self._stored = replace(self._stored, servers=rows)

    async def _carry_out(self, due: Sequence[_Planned], beside: store.Edit) -> None:
        results: dict[str, tuple[ServerRow, Found]] = {}
        limit = anyio.CapacityLimiter(PROBES_AT_ONCE)
        failures: list[HubError] = []

        async def probe(plan: _Planned) -> None:
            async with limit:
                try:
                    present = self._known(plan.spec.name) if plan.action == "update" else None
                    async with self._reachable(plan.spec) as address:
                        results[plan.spec.name] = await self._probed(plan.spec, present, address)
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
        new = tuple(plan.spec.name for plan in due if plan.action == "create")
        had_children = {row.name for row in self._stored.servers if is_child(row.declared)}
        await self._commit(replace(beside, servers=rows, found=found, fresh=new))
        for row in rows:
            # Stored is stored: what the runner cannot do now is the server's state, not a failure of the change.
            if is_child(row.declared) or row.name in had_children:
                reason = await self._children.settle_later(row.name)
                if reason:
                    seen = store.Observed(row.name, row.declared, now(), "down", reason)
                    await self._commit(store.Edit(observed=seen))

    async def _probed(self, spec: ServerSpec, present: ServerRow | None, address: Address) -> tuple[ServerRow, Found]:
        """Look at a server as declared; nothing is stored."""
        began = now()
        before = self._definitions(spec.name) if present else ()
        found = await self._look_patiently(address, spec.era, before, child=spec.is_child)
        row = _copied(present) if present else ServerRow(name=spec.name)
        row.title, row.description = spec.title, spec.description
        row.declared = sealed(spec, self._keyring)
        row.changed = now()
        changes = await _compared(before, found) if present else ()
        seen = _observed(row, found, began, changes)
        row.state, row.reason, row.discovered = seen.state, seen.reason, seen.looked
        row.facts, row.eras = dict(seen.facts or {}), list(seen.eras or ())
        return row, found

    @asynccontextmanager
    async def _reachable(self, spec: ServerSpec, *, keep: bool = False) -> AsyncGenerator[Address]:
        """An address to look at. A child started for it is stopped again, unless it is kept and then stored."""
        await self._check_urls(spec)
        if not spec.is_child:
            yield self._on_terms(_http_address(spec), spec.model_dump(include=set(TERMS), exclude_none=True))
            return
        async with self._children.added(spec) if keep else self._children.tried(spec) as address:
            yield address

    async def _check_urls(self, spec: ServerSpec) -> None:
        for url in (spec.url, spec.openapi, spec.base_url, *spec.replicas):
            if url is not None:
                await self._check_url(url)

    async def _look_patiently(
        self, address: Address, wanted: Wanted, known: tuple[Definition, ...], *, child: bool
    ) -> Found:
        """A look at a server; a child gets more time than one answer may take, for it may still be fetching itself."""
        with anyio.move_on_after(FETCH_SECONDS):
            while child:
                try:
                    return await _checked(await self._look(address, wanted), known)
                except UpstreamTimeout as error:
                    log.info("%s is still starting: %s", address.url, error.message)
        return await _checked(await self._look(address, wanted), known)

    async def _looked_at(self, row: ServerRow) -> tuple[store.Observed, Sequence[str]]:
        """What a new look at a registered server brings, and what changed in words."""
        began = now()
        try:
            if not row.internal:
                spec = opened(row.declared, self._keyring)
                if spec.is_child:
                    await self._children.settle(place_of(row))
                else:
                    await self._check_url(spec.url or "")
            wanted = cast("Wanted", row.declared.get("era", "auto"))
            known = self._definitions(row.name)
            found = await self._look_patiently(self._address(row), wanted, known, child=is_child(row.declared))
        except HubError as error:
            return store.Observed(row.name, row.declared, began, "down", error.message), ()
        except ValidationError:
            reason = "Its declaration does not fit this version: declare it anew."
            return store.Observed(row.name, row.declared, began, "down", reason), ()
        said = await _compared(known, found)
        return _observed(row, found, began, said), said

    def _preview(self, row: ServerRow, found: Found) -> dict[str, Any]:
        offers = [
            self._offer(known, self._definitions(known.name)) for known in self._stored.servers if not known.canary_of
        ]
        offers.append(self._offer(row, found.definitions))
        # With a publisher of its own: the other's memory is that of the thread which loads.
        names = Publisher(self._publisher.budget).names(offers, self._stored.owned)
        shown = rendering.exposed(row.name, found.definitions, names)
        return self._shown(row, store.counted(found.definitions)) | {"exposed": shown}

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

    def _limit_change(self, spec: LimitSpec) -> dict[str, Any]:
        present = next((row for row in self._stored.limits if row.name == spec.name), None)
        wanted = _limit_row(spec).declared
        before = present.declared if present else LimitSpec.model_construct(name=spec.name).model_dump(mode="json")
        diff = {
            key: {"from": before.get(key), "to": value} for key, value in wanted.items() if before.get(key) != value
        }
        action = "create" if present is None else "update" if diff else "none"
        return {"action": action, "kind": "limit", "name": spec.name, "diff": diff}

    def _limits_of(self, rows: Sequence[LimitRow]) -> tuple[Limit, ...]:
        """The limits in force: the same object as before while they are the same, which is what callers compare."""
        found: list[Limit] = []
        for row in rows:
            try:
                found.append(LimitSpec.model_validate(row.declared).compiled())
            except ValidationError as error:
                log.warning("the limit %s does not fit this version and is not in force: %s", row.name, error)
        present = self._snapshots.current.limits
        return present if present == tuple(found) else tuple(found)

    def _trials(self, stored: store.Stored) -> list[Trial]:
        """The versions that are tried out of servers that are on."""
        found: list[Trial] = []
        bases = {row.name: row for row in stored.servers if row.enabled and not row.canary_of}
        for row in stored.servers:
            if row.canary_of in bases:
                offer = self._offer(row, stored.definitions[row.name], "canary")
                if rendering.version(bases[row.canary_of]) == offer.server.version:
                    # Figures of two versions of one name could not be told apart.
                    offer = Offer(replace(offer.server, version=row.name), offer.definitions)
                found.append(Trial(offer, rules_of(row, offer.server)))
        return found

    def _offer(self, row: ServerRow, items: tuple[Definition, ...], track: Track = "") -> Offer:
        """A server as it is published. One that is declared and described as before stays the object that it was."""
        known, before = self._offers.get(row.name), self._rows.get(row.name)
        if known is not None and before is not None and known.server.track == track and _alike(row, before):
            return known if known.definitions is items else Offer(known.server, items)
        said: dict[Era, Mapping[str, Any]] = {era: row.facts[era] for era in ERAS if era in row.facts}
        address = self._address(row)
        server = Server(
            name=row.canary_of or row.name,
            address=address,
            digest=_registration_digest(row.declared, address),
            eras=frozenset(said),
            capabilities={era: facts["capabilities"] for era, facts in said.items()},
            info={era: facts["info"] for era, facts in said.items()},
            instructions={era: facts["instructions"] for era, facts in said.items() if facts["instructions"]},
            internal=row.internal,
            check_arguments=bool(row.declared.get("check_arguments", True)),
            version=rendering.version(row),
            track=track,
            place=place_of(row),
        )
        return Offer(server, items)

    def _render(self, row: ServerRow) -> Mapping[str, Any]:
        """A server as it is shown, made once per row: `list` is asked for every few seconds, by ourselves as well."""
        known = self._rendered.get(row.name)
        if known is None or known[0] is not row:
            known = self._rendered[row.name] = (row, self._shown(row, self._stored.counts[row.name]))
        return known[1]

    def _address(self, row: ServerRow) -> Address:
        return self._on_terms(self._place(row), row.declared)

    def _on_terms(self, address: Address, declared: Mapping[str, Any]) -> Address:
        said = any(declared.get(group) for group in TERMS)
        return replace(address, terms=termed.of(declared, self._terms)) if said else address

    def _place(self, row: ServerRow) -> Address:
        transport = "sse" if row.facts.get("transport") == "sse" else "http"
        if row.internal:
            return Address(row.declared["url"], socket=row.declared.get("socket", ""), transport=transport)
        if is_child(row.declared):
            return self._children.address(place_of(row))
        try:
            return _http_address(opened(row.declared, self._keyring), transport)
        except (HubError, ValidationError) as error:
            # Listed without its credential rather than not at all: its own refusal will say what is missing.
            log.warning("the declaration of server %s could not be opened: %s", row.name, error)
            return Address(str(row.declared.get("url") or ""), transport=transport)

    def _shown(self, row: ServerRow, counts: Mapping[Kind, int]) -> dict[str, Any]:
        return rendering.server(row, counts) | termed.shown(termed.of(row.declared, self._terms))

    def _known(self, name: str) -> ServerRow:
        row = self._stored_row(name)
        if row.canary_of:
            raise NotFound(f"There is no server {name!r}.", hint=f"It is a version of {row.canary_of!r}.")
        return row

    def _stored_row(self, name: str) -> ServerRow:
        row = next((row for row in self._stored.servers if row.name == name), None)
        if row is None:
            raise NotFound(f"There is no server {name!r}.", hint="List what there is with `entrepot servers list`.")
        return row

    def _definitions(self, name: str) -> tuple[Definition, ...]:
        return self._stored.definitions.get(name, ())

    def _refuse_taken(self, name: str) -> None:
        if name.startswith(TRIAL):
            raise InvalidParams(f"Names that begin with {TRIAL!r} are the hub's own.")
        if any(row.name == name for row in self._stored.servers):
            raise Conflict(f"There is a server {name!r} already.", hint="Choose another name, or remove it first.")


async def _checked(survey: Survey, known: tuple[Definition, ...]) -> Found:
    """In a thread: checking thousands of definitions takes longer than calls may wait."""
    return await anyio.to_thread.run_sync(discovery.read, survey, known)


async def _compared(before: tuple[Definition, ...], found: Found) -> Sequence[str]:
    """What a look found different, in words; in a thread where there is anything to say."""
    if before == found.definitions:
        return ()
    return await anyio.to_thread.run_sync(rendering.changes, before, found.definitions)


def _alike(row: ServerRow, before: ServerRow) -> bool:
    """Whether two rows of a server publish the same: all that `Catalog._offer` reads of a row."""
    here = (row.declared, row.facts, row.internal, row.rollout, row.canary_of)
    return here == (before.declared, before.facts, before.internal, before.rollout, before.canary_of)


def _http_address(spec: ServerSpec, transport: Any = "http") -> Address:
    headers = tuple((name, value.get_secret_value()) for name, value in spec.headers.items())
    return Address(spec.url or "", transport=transport, headers=headers, replicas=tuple(spec.replicas))


def _observed(row: ServerRow, found: Found, began: datetime, changes: Sequence[str]) -> store.Observed:
    """What a successful look found; the last changes stay told until there are others."""
    state, reason = "ready", ""
    if found.problems:
        state, reason = "degraded", f"{len(found.problems)} left out: {found.problems[0]}"
    elif found.unchecked:
        reason = f"{len(found.unchecked)} served with unchecked arguments: {found.unchecked[0]}"
    elif not found.definitions:
        reason = "It answers, but offers no tools, prompts or resources."
    kept = list(changes) or list(row.facts.get("changes", []))
    return store.Observed(
        row.name,
        row.declared,
        began,
        state,
        reason,
        rendering.facts(found) | {"changes": kept},
        [era for era in ERAS if era in found.facts],
        found.definitions,
    )


def _copied(row: ServerRow) -> ServerRow:
    """A row to edit: those in memory are shared with readers."""
    return ServerRow.model_validate(row.model_dump())


def _collection_row(spec: CollectionSpec) -> CollectionRow:
    return CollectionRow(**spec.model_dump())


def _limit_row(spec: LimitSpec) -> LimitRow:
    return LimitRow(name=spec.name, declared=spec.model_dump(mode="json"))


def _registration_digest(declared: Mapping[str, Any], address: Address) -> str:
    """Changes whenever connections made for the registration before must not be used any more."""
    text = orjson.dumps([declared, address.url, address.socket, address.transport], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]
