"""The digest that pins a definition, and what changed between two of them, in words.

Only what steers a model or a caller is pinned: names, texts, schemas and annotations; not `_meta` and icons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

PINNED = (
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
    "arguments",
    "uri",
    "uriTemplate",
    "mimeType",
)
"""The members of a definition that its digest covers."""

_LONGEST_QUOTE = 120


def digest(definition: Mapping[str, Any]) -> str:
    """SHA-256 over the pinned members in canonical form: sorted keys, no white space."""
    pinned = {key: definition[key] for key in PINNED if key in definition}
    text = json.dumps(pinned, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What changed, one sentence each, the schemas property by property. Empty when the digests agree."""
    said: list[str] = []
    for key in PINNED:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if key in ("inputSchema", "outputSchema") and isinstance(old, dict) and isinstance(new, dict):
            said += _schema_differences(key, cast("dict[str, Any]", old), cast("dict[str, Any]", new))
        else:
            said.append(_changed(key, old, new))
    return tuple(said)


def _schema_differences(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    said: list[str] = []
    before, after = _members(old, "properties"), _members(new, "properties")
    required_before, required_after = _required(old), _required(new)
    for name in [*before, *(name for name in after if name not in before)]:
        at = f"{where}.{name}"
        if name not in after:
            said.append(f"{at} removed")
        elif name not in before:
            said.append(f"{at} added{' (required)' if name in required_after else ''}: {_quote(after[name])}")
        elif before[name] != after[name]:
            said.append(_changed(at, before[name], after[name]))
        if name in before and name in after and (name in required_before) != (name in required_after):
            said.append(f"{at} {'now' if name in required_after else 'no longer'} required")
    others = sorted({*old, *new} - {"properties", "required"})
    said += [_changed(f"{where} {key}", old.get(key), new.get(key)) for key in others if old.get(key) != new.get(key)]
    return said or [f"{where} changed"]


def _changed(what: str, old: Any, new: Any) -> str:
    if old is None:
        return f"{what} added: {_quote(new)}"
    if new is None:
        return f"{what} removed"
    return f"{what} changed: {_quote(old)} -> {_quote(new)}"


def _members(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = schema.get(key)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _required(schema: Mapping[str, Any]) -> set[str]:
    value = schema.get("required")
    return {name for name in cast("list[Any]", value) if isinstance(name, str)} if isinstance(value, list) else set()


def _quote(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
