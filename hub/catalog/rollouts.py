"""Trying out a version of a server: begun, widened, promoted or rolled back, by a person or by its own figures.

A version is a row of its own that nobody sees as a server. To promote it puts it in the server's place in one
transaction; whichever side is given up gets no new call, and those under way come to their end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from hub.audit.recorder import Audit
from hub.catalog import rendering, store
from hub.catalog.canary import Bounds, CanaryChange, CanarySpec
from hub.catalog.children import is_child
from hub.catalog.discovery import Found
from hub.catalog.manifest import ServerSpec, explained
from hub.catalog.models import ServerRow, place_of
from hub.catalog.sealing import opened
from hub.catalog.service import THE_HUB, Catalog
from hub.errors import Conflict, HubError, InvalidParams, NotFound
from hub.identity.principal import Principal
from hub.ids import new_id, now
from hub.telemetry.figures import Figures, Summary
from hub.vault.keyring import Keyring

log = logging.getLogger(__name__)

LEAST_STABLE_CALLS = 20
"""Calls of the stable version before it is a measure of latency."""


class Rollouts:
    """The roll-outs of one hub, as one worker sees them."""

    def __init__(self, catalog: Catalog, figures: Figures, keyring: Keyring, audit: Audit) -> None:
        self._catalog = catalog
        self._figures = figures
        self._keyring = keyring
        self._audit = audit

    def show(self, name: str) -> dict[str, Any]:
        """Both versions side by side. Raises `NotFound` for a server that is not there."""
        stable, canary = self._catalog.row(name), self._catalog.canary_of(name)
        bounds = _bounds(canary) if canary else Bounds()
        told: dict[str, Any] = {"server": name, "window": bounds.window, "stable": self._side(stable, bounds)}
        told["canary"] = self._side(canary, bounds) if canary else None
        told["rules"] = {key: canary.rollout.get(key) for key in RULES} if canary else None
        told["started"] = canary.rollout.get("started") if canary else None
        told["last"] = stable.rollout.get("last")
        return told

    async def start(self, principal: Principal, name: str, spec: CanarySpec) -> dict[str, Any]:
        """Probe a version and give it to those whom `spec` names. Raises `Conflict` when one is tried out already."""
        with self._audit.recording("server:canary", principal, server=name) as record:
            stable = self._catalog.row(name)
            if stable.internal:
                raise Conflict(f"{name} belongs to the hub and has no versions to choose from.")
            if self._catalog.canary_of(name) is not None:
                raise Conflict(f"A version of {name!r} is tried out already.", hint="Promote it or roll it back first.")
            number = int(stable.rollout.get("count", 1)) + 1
            place = f"{name}.{number}"
            whole = self._whole(stable, spec)
            row, found = await self._catalog.tried(whole)
            row.name, row.canary_of = place, name
            row.rollout = spec.rules() | {"started": now().isoformat(), "salt": new_id()}
            base = ServerRow.model_validate(stable.model_dump())
            base.rollout = {key: value for key, value in stable.rollout.items() if key != "last"} | {"count": number}
            await self._catalog.commit(
                store.Edit(servers=(row, base), found={place: found}, fresh=(place,), present=(name,))
            )
            if is_child(row.declared):
                await self._catalog.settle(place)
            record.outcome, record.detail = "ok", f"{whole.address}: {_told(row.rollout)}"[:1000]
        return self.show(name)

    async def change(self, principal: Principal, name: str, change: CanaryChange) -> dict[str, Any]:
        """Give the version to others. Raises `NotFound` when none is tried out."""
        with self._audit.recording("server:canary", principal, server=name) as record:
            canary = ServerRow.model_validate(self._canary(name).model_dump())
            canary.rollout = canary.rollout | change.model_dump(mode="json", exclude_none=True)
            await self._catalog.commit(store.Edit(servers=(canary,), present=(canary.name,)))
            record.outcome, record.detail = "ok", _told(canary.rollout)
        return self.show(name)

    async def promote(self, principal: Principal, name: str) -> dict[str, Any]:
        """Put the version in the server's place, for all callers. Raises `NotFound` when none is tried out."""
        with self._audit.recording("server:promote", principal, server=name) as record:
            stable, canary = self._catalog.row(name), self._canary(name)
            row = ServerRow.model_validate(stable.model_dump())
            row.declared, row.facts, row.eras = canary.declared, canary.facts, canary.eras
            row.state, row.reason, row.discovered, row.changed = canary.state, canary.reason, canary.discovered, now()
            row.rollout = {"count": stable.rollout.get("count", 1), "place": canary.name}
            row.rollout["last"] = self._end("promoted", "", stable, canary)
            found = Found({}, self._catalog.offered(canary.name), ())
            await self._catalog.commit(
                store.Edit(
                    servers=(row,), found={name: found}, removed_servers=(canary.name,), present=(name, canary.name)
                )
            )
            await self._catalog.settle(*([place_of(stable)] if is_child(stable.declared) else []))
            record.outcome, record.detail = "ok", f"{rendering.version(canary) or canary.name}"
        return self.show(name)

    async def roll_back(self, principal: Principal, name: str, reason: str = "") -> dict[str, Any]:
        """Give everybody the server as it was. Raises `NotFound` when no version is tried out."""
        with self._audit.recording("server:rollback", principal, server=name) as record:
            stable, canary = self._catalog.row(name), self._canary(name)
            row = ServerRow.model_validate(stable.model_dump())
            row.rollout = row.rollout | {"last": self._end("rolled-back", reason, stable, canary)}
            await self._catalog.commit(
                store.Edit(servers=(row,), removed_servers=(canary.name,), present=(name, canary.name))
            )
            if is_child(canary.declared):
                await self._catalog.settle(canary.name)
            record.outcome, record.detail = "ok", reason or "by hand"
        return self.show(name)

    async def judge(self) -> None:
        """Roll back every version that is past one of its bounds. One worker of a hub does this, every second."""
        rows = self._catalog.looked_after()
        self._figures.keep({place_of(row) for row in rows})
        for row in rows:
            if not row.canary_of:
                continue
            try:
                reason = self._verdict(row)
                if reason:
                    await self.roll_back(THE_HUB, row.canary_of, reason)
            except HubError as error:
                log.warning("the version %s could not be rolled back: %s", row.name, error.message)

    def plan(self, declared: Sequence[ServerSpec]) -> list[dict[str, Any]]:
        """What `apply` would do to roll-outs; servers that do not declare one are left alone."""
        return [change for spec in declared if spec.canary is not None for change in [self._planned(spec)]]

    async def apply(self, principal: Principal, declared: Sequence[ServerSpec]) -> None:
        """Bring roll-outs into the declared form."""
        for spec in declared:
            if spec.canary is None:
                continue
            change = self._planned(spec)
            if change["action"] == "update" and not change["diff"].keys() & {"reached"}:
                rules = CanaryChange.model_validate(spec.canary.model_dump(include=set(RULES)))
                await self.change(principal, spec.name, rules)
            elif change["action"] != "none":
                if self._catalog.canary_of(spec.name) is not None:
                    await self.roll_back(principal, spec.name, "another version was declared")
                await self.start(principal, spec.name, spec.canary)

    def _planned(self, spec: ServerSpec) -> dict[str, Any]:
        """One roll-out of an `apply`: what would be done with it."""
        canary = spec.canary or CanarySpec(url="http://localhost/")
        present = self._catalog.canary_of(spec.name)
        rules = canary.rules()
        before = {key: present.rollout.get(key) for key in rules} if present else {}
        diff = {key: {"from": before.get(key), "to": value} for key, value in rules.items() if before.get(key) != value}
        whole = _merged(spec, canary)
        if present is None or opened(present.declared, self._keyring) != whole:
            diff["reached"] = {"from": None, "to": whole.address}
        action = "create" if present is None else "update" if diff else "none"
        return {"action": action, "kind": "canary", "name": spec.name, "diff": diff}

    def _canary(self, name: str) -> ServerRow:
        self._catalog.row(name)
        canary = self._catalog.canary_of(name)
        if canary is None:
            raise NotFound(f"No version of {name!r} is tried out.", hint=f"Begin: entrepot servers canary {name} …")
        return canary

    def _whole(self, stable: ServerRow, spec: CanarySpec) -> ServerSpec:
        return _merged(opened(stable.declared, self._keyring), spec)

    def _side(self, row: ServerRow, bounds: Bounds) -> dict[str, Any]:
        shown = rendering.server(row, self._catalog.counts(row.name))
        kept = ("version", "address", "replicas", "kind", "state", "reason", "counts", "eras")
        figures = self._figures.summary(place_of(row), bounds.window).shown()
        return {key: shown[key] for key in kept} | {"place": place_of(row), "figures": figures}

    def _end(self, outcome: str, reason: str, stable: ServerRow, canary: ServerRow) -> dict[str, Any]:
        bounds = _bounds(canary)
        return {
            "outcome": outcome,
            "reason": reason,
            "at": now().isoformat(),
            "version": rendering.version(canary),
            "address": rendering.server(canary, {})["address"],
            "stable": self._figures.summary(place_of(stable), bounds.window).shown(),
            "canary": self._figures.summary(place_of(canary), bounds.window).shown(),
        }

    def _verdict(self, canary: ServerRow) -> str:
        """Why a version has to go; empty while it may stay."""
        bounds = _bounds(canary)
        tried = self._figures.summary(place_of(canary), bounds.window)
        stable = self._figures.summary(place_of(self._catalog.row(canary.canary_of)), bounds.window)
        return verdict(bounds, tried, stable)


RULES = ("share", "groups", "clients", "when", "bounds")


def verdict(bounds: Bounds, canary: Summary, stable: Summary) -> str:
    """Why a version has to go, by its figures and the stable version's; empty while it may stay."""
    if canary.calls < bounds.calls:
        return ""
    if bounds.error_rate is not None and canary.rate > bounds.error_rate and canary.rate > stable.rate:
        return (
            f"{canary.errors} of {canary.calls} calls failed ({canary.rate:.1f} %, of the stable version "
            f"{stable.rate:.1f} %); the bound is {bounds.error_rate:g} %"
        )
    if bounds.latency_seconds is not None and canary.p95 > bounds.latency_seconds:
        return f"its 95th percentile is {canary.p95:.3f} s; the bound is {bounds.latency_seconds:g} s"
    enough = stable.calls >= LEAST_STABLE_CALLS
    if bounds.latency is not None and enough and canary.p95 > bounds.latency * stable.p95 > 0:
        return (
            f"its 95th percentile is {canary.p95:.3f} s, of the stable version {stable.p95:.3f} s; "
            f"the bound is {bounds.latency:g} times"
        )
    return ""


def _merged(stable: ServerSpec, spec: CanarySpec) -> ServerSpec:
    have = {name: getattr(stable, name) for name in ServerSpec.model_fields if name != "canary"}
    try:
        return ServerSpec.model_validate(spec.over(have))
    except ValidationError as error:
        raise InvalidParams(explained(error)) from error


def _bounds(canary: ServerRow) -> Bounds:
    try:
        return Bounds.model_validate(canary.rollout.get("bounds", {}))
    except ValidationError:
        return Bounds()


def _told(rules: dict[str, Any]) -> str:
    parts = [f"{rules.get('share', 0):g} % of callers"] if rules.get("share") else []
    parts += [f"{what} {', '.join(rules[what])}" for what in ("groups", "clients") if rules.get(what)]
    when: dict[str, str] = rules.get("when") or {}
    parts += [f"header {name}: {value}" for name, value in when.items()]
    return "; ".join(parts) or "nobody yet"
