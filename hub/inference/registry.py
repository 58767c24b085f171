"""The registered models: the only writer of their rows, and the immutable table that requests read.

Nothing here is read from the database while a request waits. Health is what the last look or the last request
found; it is kept in memory, for it says nothing after a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import anyio
import anyio.to_thread
from sqlmodel import select

from hub.db.engine import Database
from hub.errors import Conflict, HubError, NotFound
from hub.inference.models import ModelRow
from hub.inference.relay import Relay
from hub.inference.spec import Model, ModelSpec, Parameters, State, read_spec

PURPOSE = "model-key"
"""What a sealed key is bound to, so that it opens nowhere else."""

log = logging.getLogger(__name__)


class Seal(Protocol):
    """Seals and opens small values (`hub.vault.keyring.Keyring`)."""

    def seal(self, purpose: str, value: bytes, /) -> str:
        """Encrypt for storage."""
        ...

    def open(self, purpose: str, sealed: str, /) -> bytes:
        """Decrypt what `seal` made for the same purpose."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What the last look at an endpoint found, and why it is not ready."""

    state: State = "new"
    reason: str = ""


class Models:
    """All registered models of this installation."""

    def __init__(self, database: Database, keyring: Seal, relay: Relay) -> None:
        self._database = database
        self._keyring = keyring
        self._relay = relay
        self._writing = anyio.Lock()
        self._table: Mapping[str, Model] = MappingProxyType({})
        self._health: dict[str, Health] = {}

    async def load(self) -> None:
        """Read all rows again and swap the table; also how another worker's change arrives."""
        rows = await anyio.to_thread.run_sync(self._read)
        table = {row.name: self._open(row) for row in rows}
        self._health = {
            name: health for name, health in self._health.items() if table.get(name) == self._table.get(name)
        }
        self._table = MappingProxyType(table)

    def find(self, name: str) -> Model | None:
        """The model that requests for `name` use, or None when there is none or it was switched off."""
        model = self._table.get(name)
        return model if model is not None and model.enabled else None

    def served(self) -> tuple[Model, ...]:
        """All models that are switched on, those that people registered before ours, each by name.

        Who asks for "any chat model" takes the first, so registering one is all that replaces the embedded one.
        """
        listed = sorted(self._table.values(), key=lambda model: (model.internal, model.name))
        return tuple(model for model in listed if model.enabled)

    def embedding_model(self, wanted: str = "") -> Model | None:
        """The embedding model of that name, else ours, else any."""
        candidates = [model for model in self.served() if model.kind == "embedding"]
        if wanted:
            return next((model for model in candidates if model.name == wanted), None)
        return min(candidates, key=lambda model: (not model.internal, model.name), default=None)

    def list(self) -> list[dict[str, Any]]:
        """All models as the admin API shows them, by name."""
        return [self._show(model) for _, model in sorted(self._table.items())]

    def get(self, name: str) -> dict[str, Any]:
        """One model as the admin API shows it. Raises `NotFound`."""
        return self._show(self._known(name))

    def plan(self, specs: Mapping[str, ModelSpec]) -> list[dict[str, Any]]:
        """What putting `specs` would change: `{action: create|update|none, kind, name, diff}` each."""
        return [self._change(name, spec) for name, spec in specs.items()]

    async def put(self, name: str, spec: ModelSpec | dict[str, Any]) -> dict[str, Any]:
        """Register or change a model and answer how it is shown. Raises `InvalidParams`."""
        declared = read_spec(name, spec)
        async with self._writing:
            await anyio.to_thread.run_sync(self._write, name, declared)
            await self.load()
        return self.get(name)

    async def remove(self, name: str) -> None:
        """Forget a model. Raises `NotFound`."""
        self._known(name)
        async with self._writing:
            await anyio.to_thread.run_sync(self._delete, name)
            await self.load()

    async def probe(self, name: str) -> dict[str, Any]:
        """Look at the endpoint now and answer the model with its state and reason. Raises `NotFound`."""
        model = self._known(name)
        try:
            offered = await self._relay.offered(model)
        except HubError as error:
            self.saw(name, "down", error.message)
            return self._show(model)
        if offered and model.remote_name and model.remote_name not in offered:
            self.saw(name, "degraded", f"The endpoint answers, but does not list {model.remote_name!r}.")
        else:
            self.saw(name, "ready")
        return self._show(model)

    def saw(self, name: str, state: State, reason: str = "") -> None:
        """Note what a request or a look found."""
        if name in self._table:
            self._health[name] = Health(state, reason)

    def _known(self, name: str) -> Model:
        model = self._table.get(name)
        if model is None:
            raise NotFound(f"There is no model {name!r}.", hint="List what there is with GET /api/v1/models.")
        return model

    def _show(self, model: Model) -> dict[str, Any]:
        health = self._health.get(model.name, Health())
        return {
            "name": model.name,
            "kind": model.kind,
            "description": model.description,
            "url": model.url,
            "socket": model.socket,
            "remote_name": model.remote_name,
            "has_key": bool(model.api_key),
            "native_tools": model.native_tools,
            "facts": model.facts,
            "parameters": model.parameters.model_dump(exclude_defaults=True),
            "internal": model.internal,
            "enabled": model.enabled,
            "created": model.created,
            "state": health.state,
            "reason": health.reason,
        }

    def _change(self, name: str, spec: ModelSpec) -> dict[str, Any]:
        present = self._table.get(name)
        wanted = spec.model_dump(exclude={"api_key", "parameters"})
        wanted["parameters"] = spec.parameters.model_dump(exclude_defaults=True)
        shown = {} if present is None else self._show(present)
        diff: dict[str, Any] = {
            key: {"from": shown.get(key), "to": value} for key, value in wanted.items() if shown.get(key) != value
        }
        if spec.api_key is not None and spec.api_key != (present.api_key if present else ""):
            diff["api_key"] = {
                "from": "set" if present and present.api_key else "",
                "to": "set" if spec.api_key else "",
            }
        action = "create" if present is None else "update" if diff else "none"
        return {"action": action, "kind": "model", "name": name, "diff": diff}

    def _open(self, row: ModelRow) -> Model:
        return Model(
            name=row.name,
            kind="embedding" if row.kind == "embedding" else "chat",
            url=row.url,
            socket=row.socket,
            remote_name=row.remote_name,
            api_key=self._keyring.open(PURPOSE, row.api_key).decode() if row.api_key else "",
            native_tools=row.native_tools,
            description=row.description,
            facts=row.facts,
            parameters=Parameters.model_validate(row.parameters),
            internal=row.internal,
            enabled=row.enabled,
            created=int(row.created.timestamp()),
        )

    def _read(self) -> list[ModelRow]:
        with self._database.session() as session:
            return [*session.exec(select(ModelRow))]

    def _write(self, name: str, spec: ModelSpec) -> None:
        fields = spec.model_dump(exclude={"api_key", "parameters"})
        fields["parameters"] = spec.parameters.model_dump(mode="json", exclude_defaults=True)
        if spec.api_key is not None:
            fields["api_key"] = self._keyring.seal(PURPOSE, spec.api_key.encode()) if spec.api_key else ""
        with self._database.session() as session:
            row = session.get(ModelRow, name) or ModelRow(name=name, url=spec.url)
            for key, value in fields.items():
                setattr(row, key, value)
            session.add(row)

    def _delete(self, name: str) -> None:
        with self._database.session() as session:
            row = session.get(ModelRow, name)
            if row is None:
                raise Conflict(f"Model {name!r} was removed by somebody else meanwhile.")
            session.delete(row)
