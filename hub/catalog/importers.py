"""Reads the server lists of MCP clients (Claude Desktop, Claude Code, Cursor, VS Code) as declarations.

Placeholders are refused, not expanded: what stands behind them belongs to another machine or another person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from hub.catalog.manifest import MOST_SERVERS, Declaration, ServerSpec, declaration, explained
from hub.errors import InvalidParams

_PLACEHOLDER = re.compile(r"\$\{[^}]*\}")
_KEYS = ("mcpServers", "servers", "context_servers")


def from_client(config: Any) -> Declaration:
    """The servers of a client's configuration. Raises `InvalidParams` naming the entry that cannot be taken."""
    entries = _entries(config)
    if len(entries) > MOST_SERVERS:
        raise InvalidParams(f"More than {MOST_SERVERS} servers in one file.")
    specs = [_spec(label, entry) for label, entry in entries.items()]
    return declaration({"servers": specs})


def _entries(config: Any) -> Mapping[str, Any]:
    if isinstance(config, dict):
        whole = cast("dict[str, Any]", config)
        if isinstance(whole.get("mcp"), dict):
            whole = cast("dict[str, Any]", whole["mcp"])
        for key in _KEYS:
            if isinstance(whole.get(key), dict):
                return cast("dict[str, Any]", whole[key])
    raise InvalidParams(
        "This is not a client's server list.",
        hint='Paste the JSON with "mcpServers" (Claude, Cursor) or "servers" (VS Code) in it.',
    )


def _spec(label: str, entry: Any) -> ServerSpec:
    if not isinstance(entry, dict):
        raise InvalidParams(f"The entry {label!r} is not an object.")
    fields = cast("dict[str, Any]", entry)
    if found := _placeholder(fields):
        raise InvalidParams(
            f"The entry {label!r} holds the placeholder {found}.", hint="Replace it by the value and import again."
        )
    name = re.sub(r"-+", "-", re.sub(r"[^a-z0-9]", "-", label.lower())).strip("-")[:40].strip("-")
    url = fields.get("url") or fields.get("serverUrl") or fields.get("httpUrl")
    made: dict[str, Any] = {"name": name}
    if name != label:
        made["title"] = label[:200]
    if url:
        made |= {"url": url, "headers": fields.get("headers") or {}}
        if fields.get("type") == "sse":
            made["era"] = "legacy"
    else:
        command = fields.get("command")
        arguments = cast("Any", fields.get("args") or [])
        if not isinstance(command, str) or not isinstance(arguments, list):
            raise InvalidParams(f"The entry {label!r} has neither a url nor a command with args.")
        made |= {"command": [command, *cast("list[Any]", arguments)], "env": _texts(fields.get("env") or {})}
    try:
        return ServerSpec.model_validate(made)
    except ValidationError as error:
        raise InvalidParams(f"The entry {label!r} cannot be taken: {explained(error)}") from error


def _texts(env: Any) -> Any:
    """Environment values as text: clients let people write numbers there."""
    if not isinstance(env, dict):
        return env
    return {
        name: str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in cast("dict[str, Any]", env).items()
    }


def _placeholder(value: Any) -> str:
    if isinstance(value, str):
        match = _PLACEHOLDER.search(value)
        return match[0] if match else ""
    inner = (
        cast("dict[str, Any]", value).values()
        if isinstance(value, dict)
        else cast("list[Any]", value)
        if isinstance(value, list)
        else ()
    )
    return next((found for item in inner if (found := _placeholder(item))), "")
