"""The form for a new server: what was typed, checked and put into the admin API's words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

KINDS = ("url", "command", "package", "paste")
FIELDS = ("name", "title", "url", "command", "package", "era", "headers", "env", "paste")
NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
ERAS = ("auto", "modern", "legacy")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A form that came back: the body for the admin API, or the key of what is wrong with each field."""

    typed: dict[str, str]
    body: dict[str, Any]
    errors: dict[str, str]


def wanted(kind: str, form: Mapping[str, str]) -> Wanted:
    """Read the form of one kind of server."""
    typed = {name: form.get(name, "").strip() for name in FIELDS}
    if kind == "paste":
        body, error = pasted(typed["paste"])
        return Wanted(typed, body, {"paste": error} if error else {})
    errors: dict[str, str] = {}
    if not NAME.fullmatch(typed["name"]):
        errors["name"] = "error.name" if typed["name"] else "error.needed"
    body: dict[str, Any] = {"name": typed["name"]}
    if typed["title"]:
        body["title"] = typed["title"]
    if typed["era"] in ERAS[1:]:
        body["era"] = typed["era"]
    body |= whereabouts(kind, typed, errors)
    separator, field = (":", "headers") if kind == "url" else ("=", "env")
    pairs = pairs_of(typed[field], separator)
    if pairs is None:
        errors[field] = f"error.{field}"
    elif pairs:
        body[field] = pairs
    return Wanted(typed, body, errors)


def whereabouts(kind: str, typed: Mapping[str, str], errors: dict[str, str]) -> dict[str, Any]:
    """Where the server is reached, in the one way that was chosen."""
    value = typed[kind]
    if not value:
        errors[kind] = "error.needed"
    elif kind == "url":
        if not re.match(r"https?://[^\s/]+", value):
            errors[kind] = "error.url"
        return {"url": value}
    elif kind == "command":
        try:
            return {"command": shlex.split(value)}
        except ValueError:
            errors[kind] = "error.command"
    elif not re.match(r"(npm|pypi):\S+\Z", value):
        errors[kind] = "error.package"
    return {kind: value}


def pairs_of(text: str, separator: str) -> dict[str, str] | None:
    """One `name<separator>value` a line; None when a line is not that."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, found, value = line.partition(separator)
        if not found or not re.fullmatch(r"[A-Za-z0-9_-]+", name.strip()):
            return None
        pairs[name.strip()] = value.strip()
    return pairs


def pasted(text: str) -> tuple[dict[str, Any], str]:
    """A client's configuration: `mcpServers`, VS Code's `servers`, or the inner object alone."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}, "error.json" if text else "error.needed"
    if not isinstance(value, dict) or not value:
        return {}, "error.object"
    given = cast("dict[str, Any]", value)
    servers = given.get("mcpServers", given.get("servers", given))
    if not isinstance(servers, dict) or not all(
        isinstance(each, dict) for each in cast("dict[str, Any]", servers).values()
    ):
        return {}, "error.servers"
    return {"mcpServers": servers}, ""
