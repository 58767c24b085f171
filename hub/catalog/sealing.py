"""A declared server as it is stored: secrets sealed, everything else readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from hub.catalog.manifest import ServerSpec
from hub.vault.keyring import Keyring

_SECRET = ("env", "headers")
TERMS = ("deadlines", "concurrency", "health")
"""Groups of a declaration that say on what terms a server is called."""


def sealed(spec: ServerSpec, keyring: Keyring) -> dict[str, Any]:
    """What goes into the database."""
    plain = spec.model_dump(mode="json", exclude={*_SECRET, "canary"}, exclude_none=True)
    for group in TERMS:
        # Only where something is said: a declaration of a version before reads, and compares, as it did.
        if not getattr(spec, group).model_fields_set:
            del plain[group]
    for group in _SECRET:
        values = cast("Mapping[str, SecretStr]", getattr(spec, group))
        plain[group] = {
            name: keyring.seal(f"server:{spec.name}", value.get_secret_value().encode())
            for name, value in values.items()
        }
    return plain


def opened(declared: Mapping[str, Any], keyring: Keyring) -> ServerSpec:
    """The declaration again. Raises what the keyring raises when a value was sealed with another key."""
    purpose = f"server:{declared['name']}"
    values = {
        group: {name: keyring.open(purpose, value).decode() for name, value in declared.get(group, {}).items()}
        for group in _SECRET
    }
    return ServerSpec.model_validate({**declared, **values})


_ADDRESSES = ("url", "openapi", "base_url")


def difference(before: ServerSpec | None, after: ServerSpec) -> dict[str, Any]:
    """What a declaration changes, member by member as `{"from", "to"}`; secrets only as set or changed."""
    shown: dict[str, Any] = {}
    for name in ServerSpec.model_fields:
        if name in ("name", "canary"):
            continue
        old, new = (
            (getattr(before, name) if before else ServerSpec.model_fields[name].get_default(call_default_factory=True)),
            getattr(after, name),
        )
        if old == new:
            continue
        if name in _SECRET:
            for key in sorted({*old, *new}):
                if old.get(key) != new.get(key):
                    shown[f"{name}.{key}"] = {"from": "set" if key in old else "", "to": "set" if key in new else ""}
        elif name in _ADDRESSES:
            shown[name] = {"from": without_query(old), "to": without_query(new)}
        elif name in TERMS:
            shown[name] = {"from": old.model_dump(exclude_none=True), "to": new.model_dump(exclude_none=True)}
        elif name == "replicas":
            shown[name] = {"from": [*map(without_query, old)], "to": [*map(without_query, new)]}
        else:
            shown[name] = {"from": old, "to": new}
    return shown


def without_query(url: str | None) -> str | None:
    """An address as people are shown it: its query may hold a key, and so may what stands before the host."""
    if not url:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="…" if parts.query else "").geturl()
