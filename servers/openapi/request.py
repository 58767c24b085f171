"""From the arguments of a call to the request: every value stays in the place that the description gave it.

A path parameter stays one segment (CVE-2026-32871), a header one line, and nothing of a caller reaches a credential
(CVE-2026-29791).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, unquote

from servers.kit import Fault
from servers.openapi.operations import Operation, Parameter

LONGEST_URL = 8_192
LARGEST_BODY = 2**20
DECODINGS = 3
"""How often a value is decoded to look for slashes: proxies and frameworks in a row may each do it once."""


@dataclass(frozen=True)
class Request:
    """What is sent. `url` is encoded and final."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None


def build(operation: Operation, arguments: Mapping[str, Any]) -> Request:
    """The request of a call whose arguments fit the tool's schema. Raises `Fault`."""
    path = operation.path
    queries: list[str] = []
    cookies: list[str] = []
    headers: dict[str, str] = {}
    segments: dict[str, str] = {}
    for parameter in operation.parameters:
        value = arguments.get(parameter.argument)
        if value is None:
            if parameter.required:
                raise _refused(parameter.argument, "is required")
            continue
        if parameter.place == "path":
            segments[parameter.name] = _segment(parameter, value)
        elif parameter.place == "query":
            queries += _query(parameter, value, operation)
        elif parameter.place == "header":
            headers[parameter.name] = _line(parameter.argument, _simple(parameter, value))
        else:
            cookies.append(f"{parameter.name}={_quoted(_simple(parameter, value))}")
    path = re.sub(r"{([^{}]*)}", lambda slot: segments[slot[1]], _template(path))
    # Two slots in one segment, or a slot beside a dot of the template.
    if any(segment in (".", "..") for segment in path.split("/")):
        raise _refused("path", "would leave the path of the operation")
    url = operation.base + path + (f"?{'&'.join(queries)}" if queries else "")
    if len(url) > LONGEST_URL:
        raise _refused("arguments", f"make a URL longer than {LONGEST_URL} characters")
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    content = _content(operation, arguments, headers)
    return Request(operation.method, url, headers, content)


def _template(path: str) -> str:
    """The fixed parts of a path, encoded where the description forgot to."""
    parts = re.split(r"({[^{}]*})", path)
    return "".join(part if part.startswith("{") else quote(part, safe="/%:@!$&'()*+,;=~") for part in parts)


def _segment(parameter: Parameter, value: Any) -> str:
    text = _simple(parameter, value)
    seen = text
    for _ in range(DECODINGS + 1):
        if "/" in seen or "\\" in seen:
            # Servers that decode before they choose the operation would come to another one.
            raise _refused(parameter.argument, "must not hold a slash or a backslash, encoded or not")
        if seen in ("", ".", ".."):
            raise _refused(parameter.argument, "must not be empty, `.` or `..`")
        if any(ord(character) < 32 or ord(character) == 127 for character in seen):
            raise _refused(parameter.argument, "must not hold control characters")
        seen = unquote(seen)
    return _quoted(text)


def _query(parameter: Parameter, value: Any, operation: Operation) -> list[str]:
    name = _quoted(parameter.name)
    if parameter.as_json:
        return [f"{name}={_quoted(json.dumps(value, ensure_ascii=False))}"]
    if isinstance(value, list):
        words = [_scalar(parameter.argument, item) for item in cast("list[Any]", value)]
        if parameter.style == "form" and parameter.explode:
            return [f"{name}={_quoted(word)}" for word in words]
        joint = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(parameter.style, ",")
        return [f"{name}={joint.join(map(_quoted, words))}"] if words else []
    if isinstance(value, dict):
        members = {key: _scalar(parameter.argument, item) for key, item in cast("dict[str, Any]", value).items()}
        if parameter.style == "deepObject":
            return [f"{name}{_quoted(f'[{key}]')}={_quoted(word)}" for key, word in members.items()]
        if not parameter.explode:
            return [f"{name}={','.join(_quoted(word) for member in members.items() for word in member)}"]
        # Each member becomes a parameter of its own: it must not pass for one that is declared.
        declared = {other.name for other in operation.parameters if other.place == "query"}
        if taken := declared & set(members):
            raise _refused(parameter.argument, f"has a member {min(taken)[:60]!r}, which is a parameter of its own")
        return [f"{_quoted(key)}={_quoted(word)}" for key, word in members.items()]
    return [f"{name}={_quoted(_scalar(parameter.argument, value))}"]


def _simple(parameter: Parameter, value: Any) -> str:
    if parameter.as_json:
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(_scalar(parameter.argument, item) for item in cast("list[Any]", value))
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        words = [(key, _scalar(parameter.argument, item)) for key, item in members.items()]
        return ",".join(f"{key}={word}" if parameter.explode else f"{key},{word}" for key, word in words)
    return _scalar(parameter.argument, value)


def _scalar(argument: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return "" if value is None else json.dumps(value)
    raise _refused(argument, "is nested deeper than a URL or a header can say")


def _line(argument: str, text: str) -> str:
    if not text.isascii() or not text.isprintable() or len(text) > LONGEST_URL:
        raise _refused(argument, "must be one line of printable ASCII, since it goes into a header")
    return text.strip()


def _content(operation: Operation, arguments: Mapping[str, Any], headers: dict[str, str]) -> bytes | None:
    body = operation.body
    if body is None or body.argument not in arguments:
        if body is not None and body.required:
            raise _refused(body.argument, "is required")
        return None
    value = arguments[body.argument]
    if body.media_type == "application/x-www-form-urlencoded":
        content = _form(body.argument, value)
    elif body.media_type.startswith("text/"):
        content = _encoded(body.argument, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    else:
        content = _encoded(body.argument, json.dumps(value, ensure_ascii=False))
    if len(content) > LARGEST_BODY:
        raise _refused(body.argument, f"is larger than {LARGEST_BODY} bytes")
    headers["Content-Type"] = (
        f"{body.media_type}; charset=utf-8" if body.media_type.startswith("text/") else body.media_type
    )
    return content


def _form(argument: str, value: Any) -> bytes:
    if not isinstance(value, dict):
        raise _refused(argument, "must be an object, since it becomes a form")
    pairs: list[str] = []
    for key, item in cast("dict[str, Any]", value).items():
        for single in cast("list[Any]", item) if isinstance(item, list) else [item]:
            text = (
                json.dumps(single, ensure_ascii=False) if isinstance(single, dict | list) else _scalar(argument, single)
            )
            pairs.append(f"{_quoted(key)}={_quoted(text)}")
    return "&".join(pairs).encode()


def _quoted(text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise _refused("arguments", "hold half of a surrogate pair") from None


def _encoded(argument: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _refused(argument, "holds half of a surrogate pair") from None


def _refused(argument: str, why: str) -> Fault:
    return Fault(f"{argument} {why}.", code="invalid-arguments", hint="Correct the named argument and call again.")
