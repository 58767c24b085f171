"""JSON-RPC envelopes as raw fragments: only the top-level keys are read, the rest stays the sender's bytes.

Decoding to a dict and writing it anew leaves one value per key at both levels that the hub decides on, so that
a repeated key cannot make the hub and the server behind it see different things.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
import orjson
from msgspec import Raw

Fragments = dict[str, Raw]
"""An object's values by key, each as the JSON bytes that were sent."""

_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])


class NotJson(ValueError):
    """The bytes are not a JSON object in UTF-8."""


def fragments(data: bytes | Raw) -> Fragments:
    """The values of a JSON object. Raises `NotJson`."""
    try:
        return _object.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise NotJson(str(error)) from error


def array(data: bytes | Raw) -> list[Raw]:
    """The elements of a JSON array. Raises `NotJson`."""
    try:
        return _array.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise NotJson(str(error)) from error


def value(raw: bytes | Raw) -> Any:
    """One fragment as a Python value. Raises `NotJson`."""
    try:
        return orjson.loads(memoryview(raw))
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from error


def dumps(found: object) -> bytes:
    """A value that a peer sent, written anew. Raises `NotJson` where it is nested deeper than can be written."""
    try:
        return orjson.dumps(found)
    except orjson.JSONEncodeError as error:
        raise NotJson(str(error)) from error


def mapping(found: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def write(parts: Fragments | dict[str, bytes | Raw]) -> bytes:
    """An object from its fragments."""
    return b"{" + b",".join([b"%b:%b" % (orjson.dumps(key), bytes(raw)) for key, raw in parts.items()]) + b"}"


def same(raw: Raw | bytes | None, text: bytes) -> bool:
    """Whether a fragment is exactly these bytes."""
    return raw is not None and bytes(raw) == text


def same_id(one: bytes | None, other: bytes | None) -> bool:
    """Whether two ids are the same value: a peer may write a string's characters in another way, never its type."""
    if one == other:
        return True
    if one is None or other is None or one[:1] != b'"' or other[:1] != b'"':
        return False
    return value(one) == value(other)


class Message(msgspec.Struct, frozen=True):  # made in a quarter of a dataclass's time, four times a call
    """One JSON-RPC message: `raw` as it came, its id as JSON bytes (None without one), and its members."""

    raw: bytes
    id: bytes | None
    method: str
    members: Fragments

    @property
    def is_request(self) -> bool:
        """A request that wants an answer."""
        return bool(self.method) and self.id is not None

    @property
    def is_notification(self) -> bool:
        """A message that wants none."""
        return bool(self.method) and self.id is None

    @property
    def is_response(self) -> bool:
        """A result or an error."""
        return not self.method

    def params(self) -> Fragments:
        """The parameters by key; empty when there are none. Raises `NotJson` when they are no object."""
        raw = self.members.get("params")
        return {} if raw is None else fragments(raw)


def read(data: bytes) -> Message:
    """A message from its bytes. Raises `NotJson`."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise NotJson("the text is not UTF-8") from error
    members = fragments(data)
    method = members.get("method")
    name = value(method) if method is not None else ""
    identifier = members.get("id")
    if not isinstance(name, str) or (method is not None and not name):
        raise NotJson("the method is not a name")
    return Message(data, None if identifier is None else bytes(identifier), name, members)


def failure(message: Message) -> tuple[int, str]:
    """Code and text of a failed answer; (0, "") when it is a result."""
    raw = message.members.get("error")
    if raw is None:
        return 0, ""
    told = mapping(value(raw))
    code = told.get("code")
    return code if isinstance(code, int) else -32603, str(told.get("message", ""))[:500]


def request(identifier: bytes, method: str, params: Fragments | dict[str, bytes | Raw] | None) -> bytes:
    """The bytes of a request; `identifier` is JSON already."""
    head = b'{"jsonrpc":"2.0","id":%b,"method":%b' % (identifier, orjson.dumps(method))
    return head + b"}" if params is None else head + b',"params":' + write(params) + b"}"


def notification(method: str, params: Fragments | dict[str, bytes | Raw] | None = None) -> bytes:
    """The bytes of a notification."""
    head = b'{"jsonrpc":"2.0","method":%b' % orjson.dumps(method)
    return head + b"}" if params is None else head + b',"params":' + write(params) + b"}"


def result(identifier: bytes, body: bytes | Raw) -> bytes:
    """The bytes of a successful answer."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, bytes(body))


def error(identifier: bytes | None, code: int, message: str, data: Any = None) -> bytes:
    """The bytes of a failed answer; without an id it answers what could not be read."""
    told: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        told["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier or b"null", orjson.dumps(told))
