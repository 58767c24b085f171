"""Servers, definitions and collections as the admin API and the UI show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson

from hub.catalog import lockfile
from hub.catalog.discovery import Definition, Found
from hub.catalog.manifest import ServerSpec
from hub.catalog.models import CollectionRow, ServerRow
from hub.catalog.naming import Holder, Names
from hub.catalog.sealing import without_query
from hub.catalog.snapshot import Kind
from hub.upstream.address import Facts

LONGEST_TEXT = 500


def server(row: ServerRow, counts: Mapping[Kind, int]) -> dict[str, Any]:
    """The `Server` of docs/architecture.md; `counts` is what it offers of each kind."""
    declared = row.declared
    info = _info(row.facts)
    spec = ServerSpec.model_construct(**_plain(declared))
    return {
        "name": row.name,
        "title": row.title or str(info.get("title") or info.get("name") or row.name),
        "description": row.description or str(info.get("description") or ""),
        "kind": "internal" if row.internal else spec.kind,
        "address": str(declared.get("url", "")) if row.internal else spec.address,
        "era": declared.get("era", "auto"),
        "eras": list(row.eras),
        "state": row.state,
        "reason": row.reason,
        "enabled": row.enabled,
        "internal": row.internal,
        "counts": dict(counts),
        "discovered": row.discovered.isoformat() if row.discovered else None,
        "changed": row.changed.isoformat(),
        "isolation": declared.get("isolation", "shared"),
        "version": version(row),
        "replicas": [without_query(url) for url in declared.get("replicas", [])],
        "rollout": {key: row.rollout[key] for key in ("last",) if key in row.rollout},
        "sandbox": declared.get("sandbox", "server"),
        "check_arguments": bool(declared.get("check_arguments", True)),
        "secrets": sorted([*declared.get("env", {}), *declared.get("headers", {})]),
        "problems": list(row.facts.get("problems", [])),
        "changes": list(row.facts.get("changes", [])),
    }


def version(row: ServerRow) -> str:
    """What tells a version's figures from another's: as declared, or as it says itself."""
    return str(row.declared.get("version") or _info(row.facts).get("version") or "")[:60]


def exposed(name: str, definitions: Sequence[Definition], names: Names) -> list[dict[str, str]]:
    """What callers will see of a server, once per name."""
    seen: dict[Holder, str] = {}
    for item in definitions:
        holder = Holder(name, item.kind, item.name)
        seen[holder] = names.listed[holder]
    return [{"kind": holder.kind, "name": holder.name, "exposed": shown} for holder, shown in seen.items()]


def definitions(name: str, items: Iterable[Definition], names: Names) -> list[dict[str, Any]]:
    """Every definition of a server, with what it is called and its digest."""
    return [
        {
            "era": item.era,
            "kind": item.kind,
            "name": item.name,
            "exposed": names.listed.get(Holder(name, item.kind, item.name), item.name),
            "digest": item.digest,
            "definition": orjson.loads(item.body),
        }
        for item in items
    ]


def collection(row: CollectionRow) -> dict[str, Any]:
    """A collection."""
    return {
        "name": row.name,
        "title": row.title,
        "description": row.description,
        "members": list(row.members),
        "mode": row.mode,
        "pinned": list(row.pinned),
        "client": row.client,
    }


def facts(found: Found) -> dict[str, Any]:
    """What is kept of a server's own words: per era its capabilities, info and instructions."""
    kept: dict[str, Any] = {era: _facts(said) for era, said in found.facts.items()}
    kept["transport"] = found.transport
    kept["problems"] = [*found.problems, *found.unchecked]
    return kept


def changes(before: Sequence[Definition], after: Sequence[Definition]) -> list[str]:
    """What a new look found different from the one before, in words."""
    old = {(item.era, item.kind, item.name): item for item in before}
    new = {(item.era, item.kind, item.name): item for item in after}
    said = [f"{era} {kind} {name!r} is new" for era, kind, name in new if (era, kind, name) not in old]
    said += [f"{era} {kind} {name!r} is gone" for era, kind, name in old if (era, kind, name) not in new]
    for key in old.keys() & new.keys():
        if old[key].digest == new[key].digest:
            continue
        words = lockfile.differences(orjson.loads(old[key].body), orjson.loads(new[key].body))
        said.append(f"{key[0]} {key[1]} {key[2]!r}: {'; '.join(words)}"[:LONGEST_TEXT])
    return sorted(said)[:200]


def _facts(said: Facts) -> dict[str, Any]:
    return {"capabilities": dict(said.capabilities), "info": dict(said.info), "instructions": said.instructions}


def _info(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    for era in ("modern", "legacy"):
        info = kept.get(era, {}).get("info")
        if isinstance(info, dict):
            return cast("dict[str, Any]", info)
    return {}


def _plain(declared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: declared.get(key) for key in ("name", "url", "command", "package", "openapi")}
