"""A server's answer as its client is to get it: the client's id, its era's error codes, one word for the audit."""

from __future__ import annotations

from msgspec import Raw

from hub.catalog.snapshot import Server
from hub.errors import UpstreamError
from hub.gateway.calls import Call, Outcome
from hub.gateway.wire import RELAYED_STATUS
from hub.upstream import jsonrpc
from hub.upstream.connection import Incoming
from hub.upstream.jsonrpc import Fragments, Message

CANCELLED = -32800
PROGRESS = "notifications/progress"


def failed(identifier: bytes, incoming: Incoming) -> Outcome | None:
    """An error that the server answered, under the client's id; None for a result."""
    if "error" not in incoming.message.members:
        return None
    code, _ = jsonrpc.failure(incoming.message)
    body = incoming.message.raw
    if incoming.message.id != identifier or code == -32002:
        error = jsonrpc.fragments(incoming.message.members["error"])
        if code == -32002:
            # "Resource not found" of older revisions; modern clients know -32602.
            error["code"] = Raw(b"-32602")
        body = b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, jsonrpc.write(error))
    return Outcome(RELAYED_STATUS.get(code, 200), body, f"error {code}")


def result_of(server: Server, message: Message) -> Fragments:
    """The members of a result. Raises `UpstreamError` when it is no object."""
    try:
        return jsonrpc.fragments(message.members["result"])
    except jsonrpc.NotJson as error:
        raise UpstreamError(f"Server {server.name!r} answered with a result that is not an object") from error


def verdict_of(result: Fragments) -> str:
    """One word for the audit."""
    return "tool-error" if jsonrpc.same(result.get("isError"), b"true") else "ok"


def withdrawn(call: Call) -> Outcome:
    """The end of a call that its client cancelled: it expects no answer, but its stream has to end."""
    return Outcome(200, jsonrpc.error(call.identifier, CANCELLED, "Request cancelled"), "cancelled")


def is_progress(message: Message, token: object) -> bool:
    """Whether a progress notification carries this token: where requests share a stream, others' come by too."""
    try:
        told = message.params().get("progressToken")
        return told is not None and token is not None and jsonrpc.value(told) == token
    except jsonrpc.NotJson:
        return False
