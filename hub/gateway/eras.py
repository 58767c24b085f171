"""Which era a POST belongs to, and the rungs that a modern request must climb before it is dispatched.

Pure: headers and a message in, a verdict or the first rung that failed out (MCP 2026-07-28, "Streamable HTTP";
the order is the reference implementation's). The body is the source of truth, headers must agree with it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.catalog.snapshot import Mode
from hub.errors import BadRequest, HeaderMismatch, InvalidParams
from hub.upstream import jsonrpc
from hub.upstream.address import Era
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.legacy_http import VERSIONS as LEGACY_VERSIONS
from hub.upstream.modern_http import META, NAME_KEYS
from hub.upstream.modern_http import VERSION as MODERN_VERSION

LEGACY = frozenset(version.encode() for version in LEGACY_VERSIONS)
SINGLE = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"})
"""Headers that route: sent twice, a first reader and a last reader would see different things."""

PARAM = b"mcp-param-"
MOST_PARAM_HEADERS = 64
LONGEST_PARAM_HEADER = 8192
"""Bytes of one mirrored value: the bound of common servers and proxies for a header line."""


@dataclass(slots=True)
class Head:
    """The headers that MCP knows, without the white space around them that HTTP allows."""

    accept: bytes = b""
    content_type: bytes = b""
    version: bytes | None = None
    method: bytes | None = None
    name: bytes | None = None
    session: bytes | None = None
    repeated: bytes = b""
    params: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    raw: Sequence[tuple[bytes, bytes]] = ()
    """All of them as they came, for rules that name one."""
    mode: Mode | None = None
    """What the URL asks for (`modes.in_query`): a part of a request's head that is no header."""
    client: str = ""
    """The client profile that the URL names, likewise."""

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Head:
        """Read an ASGI scope's headers once."""
        pairs = list(headers)
        values = dict(pairs)
        head = cls(raw=pairs)
        if len(values) != len(pairs):
            names = [name for name, _ in pairs]
            head.repeated = next((name for name in names if _is_single(name) and names.count(name) > 1), b"")
            values[b"accept"] = b",".join(value for name, value in pairs if name == b"accept")
        head.accept = values.get(b"accept", b"")
        head.content_type = values.get(b"content-type", b"")
        head.version = _stripped(values.get(b"mcp-protocol-version"))
        head.method = _stripped(values.get(b"mcp-method"))
        head.name = _stripped(values.get(b"mcp-name"))
        head.session = _stripped(values.get(b"mcp-session-id"))
        if head.method is not None:
            mirrored = [name for name in values if name.startswith(PARAM)]
            # One beyond the bound is kept, to be refused.
            head.params = {name: values[name].strip(b" \t") for name in mirrored[: MOST_PARAM_HEADERS + 1]}
        return head


def _is_single(name: bytes) -> bool:
    return name in SINGLE or name.startswith(PARAM)


def _stripped(value: bytes | None) -> bytes | None:
    # The parser leaves trailing white space in place, which RFC 9110 5.5 says to drop.
    return value if value is None else value.strip(b" \t")


def classify(head: Head, message: Message) -> Era:
    """The era of a POST. Stricter than routing on the header alone: a body that names a version is modern."""
    if head.version is not None:
        return "legacy" if head.version in LEGACY else "modern"
    if message.method == "initialize" or message.is_response:
        return "legacy"
    return "modern" if _meta(message).get(META + "protocolVersion") is not None else "legacy"


class UnsupportedVersion(BadRequest):
    """The request is of a revision that is not spoken here (-32022)."""

    code, rpc = "unsupported-version", -32022


class UnknownMethod(BadRequest):
    """There is no such method (-32601)."""

    code, rpc, status = "unknown-method", -32601, 404


@dataclass(frozen=True, slots=True)
class Modern:
    """A modern request that has climbed the ladder."""

    params: Fragments
    meta: Mapping[str, Any]
    name: str


def climb(head: Head, message: Message) -> Modern:
    """The rungs between the envelope and dispatch. Raises the error of the first that fails."""
    if head.repeated:
        raise HeaderMismatch(f"The header {head.repeated.decode('latin-1')} was sent more than once")
    if head.params:
        _check_bounds(head.params)
    params = _params(message)
    meta = jsonrpc.mapping(jsonrpc.value(params["_meta"])) if "_meta" in params else {}
    version = meta.get(META + "protocolVersion")
    if not isinstance(version, str):
        raise InvalidParams(f"params._meta lacks {META}protocolVersion")
    if not isinstance(meta.get(META + "clientCapabilities"), dict):
        raise InvalidParams(f"params._meta lacks {META}clientCapabilities, an object")
    if head.version is None or head.version != version.encode():
        raise HeaderMismatch("The header MCP-Protocol-Version must equal the version in params._meta")
    expected = message.is_request or head.method is not None
    if expected and head.method != message.method.encode():
        raise HeaderMismatch("The header Mcp-Method must equal the method")
    name = _name(head, message, params)
    if version != MODERN_VERSION:
        raise UnsupportedVersion(
            f"The protocol version {version[:40]!r} is not spoken here",
            data={"supported": [MODERN_VERSION], "requested": version[:40]},
        )
    return Modern(params, meta, name)


def _check_bounds(params: Mapping[bytes, bytes]) -> None:
    if len(params) > MOST_PARAM_HEADERS:
        raise HeaderMismatch(f"There are more than {MOST_PARAM_HEADERS} Mcp-Param headers")
    for header, value in params.items():
        if len(value) > LONGEST_PARAM_HEADER:
            raise HeaderMismatch(f"The header {header.decode('latin-1')} is longer than {LONGEST_PARAM_HEADER} bytes")


def check_param_headers(head: Head, mirrored: Iterable[tuple[str, tuple[str, ...]]], params: Fragments) -> None:
    """Every `Mcp-Param-*` header of a declared argument must equal that argument (SEP-2243).

    `mirrored` is the target's `param_headers`. Headers that mirror nothing declared are forwarded unread.
    """
    declared = list(mirrored)
    if not declared:
        return
    arguments: Any = jsonrpc.value(params["arguments"]) if "arguments" in params else {}
    for header, path in declared:
        found: Any = arguments
        for step in path:
            found = jsonrpc.mapping(found).get(step)
        sent = head.params.get(PARAM + header.encode())
        if sent is None:
            if found is not None:
                raise HeaderMismatch(f"The header Mcp-Param-{header} is missing")
            continue
        if found is None or not _mirrors(decode_header(sent), found):
            raise HeaderMismatch(f"The header Mcp-Param-{header} differs from the argument it mirrors")


def decode_header(sent: bytes) -> str:
    """A mirrored header's value. Raises `HeaderMismatch` when its base64 form is broken."""
    text = sent.decode("latin-1")
    if not (text.startswith("=?base64?") and text.endswith("?=")):
        if not text.isascii() or not text.isprintable():
            raise HeaderMismatch("A mirrored header holds characters that must travel as base64")
        return text
    try:
        return base64.b64decode(text[9:-2], validate=True).decode()
    except ValueError as error:
        raise HeaderMismatch("A mirrored header's base64 form is broken") from error


def _mirrors(sent: str, found: object) -> bool:
    if isinstance(found, bool):
        return sent == ("true" if found else "false")
    if isinstance(found, int | float):
        try:
            return float(sent) == float(found)
        except (ValueError, OverflowError):
            return False
    return sent == found


def _name(head: Head, message: Message, params: Fragments) -> str:
    key = NAME_KEYS.get(message.method)
    if key is None:
        return ""
    if key not in params:
        raise InvalidParams(f"params.{key} is missing")
    name = jsonrpc.value(params[key])
    if not isinstance(name, str):
        raise InvalidParams(f"params.{key} must be a string")
    if head.name is None or decode_header(head.name) != name:
        raise HeaderMismatch(f"The header Mcp-Name must equal params.{key}")
    return name


def _params(message: Message) -> Fragments:
    try:
        return message.params()
    except jsonrpc.NotJson as error:
        raise InvalidParams("params must be an object") from error


def _meta(message: Message) -> Mapping[str, Any]:
    try:
        raw = message.params().get("_meta")
        return jsonrpc.mapping(jsonrpc.value(raw)) if raw is not None else {}
    except jsonrpc.NotJson:
        return {}
