"""What a server may ask a client in the middle of a call (elicitation, sampling, roots), and what its client can do.

Pure. A legacy client says at its handshake what it can be asked, a modern one with every request; here both become
the same small set of words, so that a session with a server can be kept per set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from hub import __version__
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.legacy_http import VERSIONS

ASKING = frozenset({"tools/call", "prompts/get", "resources/read"})
"""The only methods that may be answered with questions (2026-07-28)."""

Abilities = frozenset[str]
"""Of `elicitation`, `elicitation.url`, `sampling`, `sampling.tools`, `sampling.context`, `roots`."""

NONE: Abilities = frozenset()


def abilities(capabilities: Mapping[str, Any]) -> Abilities:
    """What a client with these capabilities can be asked. An empty `elicitation` means forms, in both eras."""
    if not capabilities:
        return NONE
    found: set[str] = set()
    elicitation = capabilities.get("elicitation")
    if isinstance(elicitation, dict):
        if not elicitation or "form" in elicitation:
            found.add("elicitation")
        if "url" in elicitation:
            found.add("elicitation.url")
    sampling = capabilities.get("sampling")
    if isinstance(sampling, dict):
        found.add("sampling")
        found.update(f"sampling.{part}" for part in ("tools", "context") if part in sampling)
    if isinstance(capabilities.get("roots"), dict):
        found.add("roots")
    return frozenset(found)


def can(able: Abilities, method: str, params: Fragments) -> bool:
    """Whether a client with these abilities answers a request of a server's."""
    match method:
        case "elicitation/create":
            by_url = jsonrpc.same(params.get("mode"), b'"url"')
            return ("elicitation.url" if by_url else "elicitation") in able
        case "sampling/createMessage":
            return ("sampling.tools" if "tools" in params else "sampling") in able
        case "roots/list":
            return "roots" in able
        case _:
            return False


@lru_cache(maxsize=64)
def hello(able: Abilities) -> bytes:
    """The parameters of a handshake of the hub's own on behalf of a client with these abilities."""
    capabilities: dict[str, Any] = {}
    modes: dict[str, Any] = {
        mode: {} for mode, word in (("form", "elicitation"), ("url", "elicitation.url")) if word in able
    }
    if modes:
        capabilities["elicitation"] = modes
    if "sampling" in able:
        capabilities["sampling"] = {part: {} for part in ("context", "tools") if f"sampling.{part}" in able}
    if "roots" in able:
        capabilities["roots"] = {}
    info = {"name": "entrepot", "version": __version__}
    return orjson.dumps({"protocolVersion": VERSIONS[0], "capabilities": capabilities, "clientInfo": info})


def unasked(question: Message, able: Abilities) -> bytes:
    """The hub's answer to a question that its client is not to see."""
    if question.method == "ping":
        return jsonrpc.result(question.id or b"null", b"{}")
    if can(able, question.method, question.params()):
        return jsonrpc.error(question.id, -32603, "Too many questions to this client are open")
    if question.method == "elicitation/create" and able & {"elicitation", "elicitation.url"}:
        # 2025-11-25: a mode that was not declared is an error in the parameters, not an unknown method.
        return jsonrpc.error(question.id, -32602, "The client behind this session does not take this mode")
    return jsonrpc.error(question.id, -32601, "The client behind this session cannot be asked")
