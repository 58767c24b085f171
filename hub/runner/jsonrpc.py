"""JSON-RPC over lines and bytes: errors, and putting another id into a message without touching the rest of it."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from hub.errors import HubError

Message = dict[str, Any]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL: Final = -32603
CANCELLED: Final = -32800

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY: Final = "io.modelcontextprotocol/clientInfo"
LOG_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"
SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"

ID_FIRST = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?(\d+|"[^"\\]*"),')
ID_LAST = re.compile(rb',"jsonrpc":"2\.0","id":(\d+)\}$')
"""How the Python and the TypeScript SDK write an envelope; anything else is parsed and written anew."""


def dumps(message: Any) -> bytes:
    """The message as one line of JSON without its end."""
    return orjson.dumps(message)


def with_id(line: bytes, message: Message, new: Any) -> bytes:
    """The message with another id as one line; the bytes of everything else stay where the form allows it."""
    if (first := ID_FIRST.match(line)) and b"\n" not in line and b"\r" not in line:
        return b"%b%b%b" % (line[: first.start(1)], dumps(new), line[first.end(1) :])
    if line.startswith((b'{"result":', b'{"error":')) and (last := ID_LAST.search(line)):
        return b"%b%b%b" % (line[: last.start(1)], dumps(new), line[last.end(1) :])
    return dumps(message | {"id": new})


def result(request_id: Any, value: Any) -> bytes:
    """A successful response."""
    return dumps({"jsonrpc": "2.0", "id": request_id, "result": value})


def error(request_id: Any, code: int, message: str, data: Any = None) -> bytes:
    """An error response; `request_id` is None only where the request's own could not be read."""
    body: Message = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return dumps({"jsonrpc": "2.0", "id": request_id, "error": body})


def refused(request_id: Any, fault: HubError) -> bytes:
    """An error of ours as a response that says who must act."""
    return error(request_id, fault.rpc, fault.message, fault.envelope())


def same(one: Any, other: Any) -> bool:
    """Whether two ids are equal, type included: "1" is not 1."""
    return type(one) is type(other) and one == other


def member(message: Message, key: str) -> Message:
    """The object under the key, an empty one where there is none."""
    found: Any = message.get(key)
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def params_of(message: Message) -> Message:
    """The params, an empty object where there are none."""
    return member(message, "params")


def meta_of(message: Message) -> Message:
    """The `_meta` of the params, an empty object where there is none."""
    return member(params_of(message), "_meta")


def with_meta(message: Message, key: str, value: Any) -> Message:
    """A copy of the message with one key of `params._meta` replaced."""
    params = params_of(message)
    return message | {"params": params | {"_meta": meta_of(message) | {key: value}}}


def with_param(message: Message, key: str, value: Any) -> Message:
    """A copy of the message with one of its params replaced."""
    return message | {"params": params_of(message) | {key: value}}
