"""A tool's result in the terminal: text as text, everything else saved or described."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click

from hub.cli.show import clean, line, print_json


def structured(result: Mapping[str, Any]) -> dict[str, Any]:
    """The structured content, empty where there is none or it is no object."""
    found: Any = result.get("structuredContent")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def print_result(result: dict[str, Any], as_json: bool, save: Path | None) -> None:
    """Print a `tools/call` result. `save` is a folder for what is not text."""
    if as_json:
        print_json(result)
        return
    blocks = cast("list[dict[str, Any]]", result.get("content") or [])
    for number, block in enumerate(blocks, 1):
        click.echo(_told(block, number, save))
    if not blocks and "structuredContent" in result:
        print_json(result["structuredContent"])


def _told(block: Mapping[str, Any], number: int, save: Path | None) -> str:
    match block.get("type"):
        case "text":
            return clean(str(block.get("text", "")))
        case "image" | "audio":
            return _kept(str(block["type"]), block, str(block.get("data", "")), number, save)
        case "resource":
            resource = cast("dict[str, Any]", block.get("resource") or {})
            if "text" in resource:
                return f"[{line(resource.get('uri', ''))}]\n{clean(str(resource['text']))}"
            return _kept(line(resource.get("uri", "resource")), resource, str(resource.get("blob", "")), number, save)
        case "resource_link":
            return f"[{line(block.get('name', ''))}] {line(block.get('uri', ''))}"
        case other:
            return f"[{line(other)}]"


def _kept(what: str, block: Mapping[str, Any], encoded: str, number: int, save: Path | None) -> str:
    """Save the bytes under a name of our own, or say what they are."""
    kind = line(block.get("mimeType") or "application/octet-stream")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return f"[{what} {kind}, not valid base64]"
    size = f"{len(content):,} bytes"
    if save is None:
        return f"[{what} {kind}, {size}; --save FOLDER keeps it]"
    save.mkdir(parents=True, exist_ok=True)
    path = save / f"{number}{mimetypes.guess_extension(kind) or '.bin'}"
    path.write_bytes(content)
    return f"[{what} {kind}, {size}: {path}]"
