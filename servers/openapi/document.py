"""From a URL or a file to an OpenAPI document as plain JSON values, within bounds.

Redirects are not followed and YAML aliases are refused: a description must not lead elsewhere, nor grow when read.
"""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import httpx
import yaml

from servers.kit import SettingsFault

LARGEST_JSON = 16 * 2**20
"""Bytes; the longest public descriptions have some twelve million."""
LARGEST_YAML = 4 * 2**20
"""Bytes; reading YAML costs many times what JSON does."""
DEEPEST = 100
MOST_HOPS = 16
"""References that lead to references."""
FETCH_SECONDS = 20.0


class Unresolvable(Exception):
    """A reference leads nowhere, outside the document, or in a circle."""


class Document:
    """A parsed description. Only references into itself can be followed."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.version = str(root.get("openapi", ""))

    @property
    def nullable_keyword(self) -> bool:
        """Whether `nullable` and boolean `exclusiveMinimum` have a meaning, as in 3.0."""
        return self.version.startswith("3.0")

    def at(self, reference: str) -> Any:
        """What a `#/...` reference points to. Raises `Unresolvable`."""
        if not reference.startswith("#/"):
            raise Unresolvable(f"{reference[:200]!r} leads outside the document")
        value: Any = self.root
        for step in reference[2:].split("/"):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = cast("dict[str, Any]", value)[key]
            elif (
                isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(cast("list[Any]", value))
            ):
                value = cast("list[Any]", value)[int(key)]
            else:
                raise Unresolvable(f"{reference[:200]!r} leads nowhere")
        return value

    def resolved(self, value: Any) -> dict[str, Any]:
        """An object of the description in which a `$ref` may stand instead. Raises `Unresolvable`."""
        for _ in range(MOST_HOPS):
            if not isinstance(value, dict):
                raise Unresolvable("an object was expected")
            found = cast("dict[str, Any]", value)
            reference = found.get("$ref")
            if not isinstance(reference, str):
                return found
            value = self.at(reference)
        raise Unresolvable("references lead in a circle")


def load(spec: str, headers: Mapping[str, str], tls: ssl.SSLContext) -> Document:
    """Read a description; `headers` are sent to its URL. Blocks. Raises `SettingsFault`."""
    body = _fetched(spec, headers, tls) if spec.startswith(("http://", "https://")) else _read(Path(spec))
    return parsed(body)


def parsed(body: bytes) -> Document:
    """The document in a JSON or YAML text. Raises `SettingsFault`."""
    if len(body) > LARGEST_JSON:
        raise SettingsFault(f"The OpenAPI description is larger than {LARGEST_JSON} bytes.")
    try:
        value = json.loads(body)
    except RecursionError:
        raise SettingsFault(f"The OpenAPI description is nested deeper than {DEEPEST} levels.") from None
    except ValueError:
        value = _yaml(body)
    root = _plain(value, DEEPEST)
    if not isinstance(root, dict):
        raise SettingsFault("The OpenAPI description is not an object; does the URL lead to a web page?")
    document = Document(cast("dict[str, Any]", root))
    if "swagger" in document.root:
        raise SettingsFault("This is a Swagger 2.0 description; convert it to OpenAPI 3.0 or newer.")
    if not document.version.startswith(("3.0", "3.1", "3.2")):
        raise SettingsFault("This is not an OpenAPI 3 description: its member `openapi` names no version 3.0 to 3.2.")
    return document


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_JSON + 1)
    except OSError as error:
        raise SettingsFault(f"The OpenAPI description {path} cannot be read: {error.strerror}.") from error


def _fetched(url: str, headers: Mapping[str, str], tls: ssl.SSLContext) -> bytes:
    # Identity: a compressed answer could unpack to any size.
    wanted = {"accept": "application/json, application/yaml;q=0.9, */*;q=0.5", "accept-encoding": "identity"}
    try:
        with (
            httpx.Client(verify=tls, timeout=FETCH_SECONDS, follow_redirects=False) as client,
            client.stream("GET", url, headers=wanted | dict(headers)) as answer,
        ):
            if answer.is_redirect:
                raise SettingsFault("The OpenAPI description has moved; redirects are not followed: give its new URL.")
            if not answer.is_success:
                raise SettingsFault(f"The OpenAPI description cannot be fetched: status {answer.status_code}.")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise SettingsFault("The OpenAPI description came compressed although that was not asked for.")
            body = bytearray()
            for piece in answer.iter_raw():
                body += piece
                if len(body) > LARGEST_JSON:
                    raise SettingsFault(f"The OpenAPI description is larger than {LARGEST_JSON} bytes.")
            return bytes(body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SettingsFault(f"The OpenAPI description cannot be fetched: {type(error).__name__}.") from error


def _yaml(body: bytes) -> Any:
    if len(body) > LARGEST_YAML:
        raise SettingsFault(f"The OpenAPI description is YAML and larger than {LARGEST_YAML} bytes; give it as JSON.")
    try:
        depth = 0
        for event in cast("Iterator[yaml.Event]", yaml.parse(body, Loader=yaml.CSafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise SettingsFault("The OpenAPI description uses a YAML alias; write the value out.")
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                depth += 1
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                depth -= 1
            if depth > DEEPEST:
                raise SettingsFault(f"The OpenAPI description is nested deeper than {DEEPEST} levels.")
        return yaml.load(body, Loader=yaml.CSafeLoader)  # the safe loader: no tags of Python's
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise SettingsFault("The OpenAPI description is neither JSON nor YAML.") from error


def _plain(value: Any, levels: int) -> Any:
    """JSON values only: YAML also gives numbers as keys (`200:`), dates, and numbers that JSON has not."""
    if levels < 0:
        raise SettingsFault(f"The OpenAPI description is nested deeper than {DEEPEST} levels.")
    if isinstance(value, dict):
        return {_key(key): _plain(item, levels - 1) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(item, levels - 1) for item in cast("list[Any]", value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _key(key: Any) -> str:
    # YAML 1.1 reads `on:` and `no:` as truth values.
    return str(key).lower() if isinstance(key, bool) else str(key)
