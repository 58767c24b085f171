"""Whole HTTP requests to `/mcp` as bytes: good ones of both eras, and what becomes of them when they are bent.

A `Shot` is what one connection is sent. Everything follows from the seed and from what a hub gave before (`Known`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz import values

META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri", "tasks/get": "taskId"}
PATHS = (
    "/mcp",
    "/mcp/",
    "/mcp/s/everything",
    "/mcp/c/none",
    "/mcp/s/",
    "/mcp/x/y",
    "/mcp/s/%00",
    "/mcp/s/a%2fb",
    "/mcp?x=1",
)
TYPES = (
    "application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "", "a/b",
    "application/json;charset=utf-16", "APPLICATION/JSON",
    "multipart/form-data; boundary=x", "application/json, text/html",
)  # fmt: skip
ACCEPTS = (
    "application/json, text/event-stream", "*/*", "application/json", "text/event-stream", "", "text/html",
    "application/*;q=0, text/*", "application/json;q=0.1,text/event-stream;q=x", ",,,", "a" * 3000,
)  # fmt: skip
VERSIONS = (
    MODERN,
    "2025-11-25",
    "2025-06-18",
    "2025-03-26",
    "2024-11-05",
    "2099-01-01",
    "",
    "x",
    MODERN + ",2025-11-25",
    "é",
)


ENDPOINTS = ("/mcp", "/mcp/s/everything", "/mcp/s/old", "/mcp/s/new", "/mcp?mode=search", "/mcp?mode=code")
"""A server of both eras, one of each, and the hub's own tools."""

CURSORS = ("", "MC4w", "MC4xMDAw", "OTk5OTk5OS4w", "MC4tNQ==", "MC45OTk5OTk5OTk5OTk5OTk5OTk5OTk=", "x", "é")
TAILS = (b"\t ", b"\x0b", b"\x00", b"\xff", b",x", b"\r\n folded")
PROGRAMS = ("1 + 1", "await echo(text='x')", "while True: pass", "(", "\0", "x" * 5000, "[0] * 10**9", "import os")
ODD_IDS: tuple[Any, ...] = (1, "a", None, {})
OTHERS = ("origin", "forwarded", "last-event-id", "cookie", "traceparent", "expect")


@dataclass
class Known:
    """What a hub gave, to be given back, also changed: sessions, cursors, sealed states."""

    token: str
    host: str
    sessions: list[str] = field(default_factory=list[str])
    states: list[str] = field(default_factory=list[str])
    places: dict[str, str] = field(default_factory=dict[str, str])
    """The endpoint that each session was opened at."""


@dataclass(frozen=True)
class Shot:
    """What one connection is sent, in pieces; `whole`: the request is complete, so that an answer is due."""

    pieces: tuple[bytes, ...]
    whole: bool
    streams: bool
    """Whether a good answer has no end."""
    paused: bool = False
    """Whether there is a pause between the pieces."""


@dataclass
class Draft:
    """A request before it is written."""

    method: bytes
    path: str
    headers: list[tuple[str, str | bytes]]
    tree: Any
    streams: bool = False


def shot(rng: Random, known: Known) -> Shot:
    """One request, good or bent."""
    draft = rng.choice((_modern, _modern, _legacy, _legacy, _stream))(rng, known)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        rng.choice((_bend_tree, _bend_tree, _bend_header, _bend_place))(rng, draft, known)
    body = b"" if draft.tree is None else values.written(draft.tree)
    if rng.random() < 0.08:
        body = _bend_bytes(rng, body)
    return _sent(rng, draft, body)


def good(known: Known) -> bytes:
    """A request that any healthy hub answers with 200: what a neighbour sends meanwhile."""
    tree = _message("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, MODERN)
    draft = Draft(b"POST", "/mcp", _headers(known, "tools/call", "echo", MODERN), tree)
    body = values.written(tree)
    return _head(draft, [(b"content-length", b"%d" % len(body))]) + body


def hello(known: Known, path: str) -> bytes:
    """A legacy handshake."""
    tree = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": _greeting()}
    body = values.written(tree)
    return _head(Draft(b"POST", path, _headers(known), tree), [(b"content-length", b"%d" % len(body))]) + body


def _modern(rng: Random, known: Known) -> Draft:
    method, params = rng.choice(_asked(rng, known, modern=True))
    tree = _message(method, params, MODERN)
    if rng.random() < 0.1:
        tree.pop("id")
    name = params.get(NAMED.get(method, ""), "")
    path = rng.choice(ENDPOINTS)
    return Draft(
        b"POST", path, _headers(known, method, str(name), MODERN), tree, streams=method == "subscriptions/listen"
    )


def _legacy(rng: Random, known: Known) -> Draft:
    if rng.random() < 0.1:
        tree: dict[str, Any] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": _greeting()}
        return Draft(b"POST", "/mcp", _headers(known), tree)
    method, params = rng.choice(_asked(rng, known, modern=False))
    tree = {"jsonrpc": "2.0", "id": rng.choice((1, "a", 7)), "method": method, "params": params}
    if method.startswith("notifications/"):
        tree.pop("id")
    if rng.random() < 0.1:
        tree = {
            "jsonrpc": "2.0",
            "id": rng.choice((1, "a")),
            rng.choice(("result", "error")): {"code": 1, "message": "no"},
        }
    headers = _headers(known, version=rng.choice(VERSIONS[1:5]))
    session = _session(rng, known)
    headers.append(("mcp-session-id", session))
    return Draft(b"POST", known.places.get(session, "/mcp"), headers, tree)


def _stream(rng: Random, known: Known) -> Draft:
    method = rng.choice((b"GET", b"DELETE", b"GET", b"PUT", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE"))
    headers = [one for one in _headers(known, version="2025-11-25") if one[0] != "content-type"]
    session = _session(rng, known)
    if method == b"DELETE" and session in known.sessions and rng.random() < 0.7:
        session += "x"  # most are left to be used
    headers.append(("mcp-session-id", session))
    return Draft(method, known.places.get(session, "/mcp"), headers, None, streams=method == b"GET")


def _session(rng: Random, known: Known) -> str:
    if known.sessions and rng.random() < 0.85:
        return rng.choice(known.sessions)
    return rng.choice(("0.x", "1.abc", "999.x", "-1.x", ".", "0.", "x", "0" * 200 + ".x", "１.x"))


def _asked(rng: Random, known: Known, *, modern: bool) -> list[tuple[str, dict[str, Any]]]:
    state = rng.choice(known.states) if known.states else "x"
    cursor = rng.choice(CURSORS)
    prompt, template = "test_prompt_with_arguments", "test://template/{id}/data"
    both: list[tuple[str, dict[str, Any]]] = [
        ("tools/list", {}),
        ("tools/list", {"cursor": cursor}),
        ("resources/list", {"cursor": cursor}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        ("tools/call", {"name": "echo", "arguments": {"text": values.word(rng)}}),
        ("tools/call", {"name": "test_simple_text", "arguments": {}}),
        ("tools/call", {"name": values.word(rng)}),
        ("tools/call", {"name": "find_tools", "arguments": {"query": values.word(rng)}}),
        ("tools/call", {"name": "describe_tool", "arguments": {"name": values.word(rng)}}),
        ("tools/call", {"name": "call_tool", "arguments": {"name": "echo", "arguments": {"text": values.word(rng)}}}),
        ("tools/call", {"name": "run_code", "arguments": {"code": rng.choice(PROGRAMS)}}),
        ("prompts/get", {"name": prompt, "arguments": {"arg1": values.word(rng), "arg2": "y"}}),
        ("resources/read", {"uri": "test://static-text"}),
        ("resources/read", {"uri": f"test://template/{values.word(rng)}/data"}),
        (
            "completion/complete",
            {
                "ref": {"type": "ref/prompt", "name": prompt},
                "argument": {"name": "arg1", "value": "p"},
            },
        ),
        (
            "completion/complete",
            {
                "ref": {"type": "ref/resource", "uri": template},
                "argument": {"name": "id", "value": "1"},
            },
        ),
    ]
    if modern:
        return [
            *both,
            ("server/discover", {}),
            (
                "subscriptions/listen",
                {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["test://x"]}},
            ),
            ("tools/call", {"name": "test_input_required_result_request_state", "arguments": {}}),
            ("tools/call", {"name": "test_mirrored_header", "arguments": {"region": values.word(rng)}}),
            ("tools/call", {"name": "echo", "arguments": {"text": "x"}, "requestState": state, "inputResponses": {}}),
            ("tasks/get", {"taskId": state}),
            ("tools/call", {"name": "test_elicitation", "arguments": {"message": "x"}}),
            (
                "tools/call",
                {
                    "name": "test_elicitation",
                    "arguments": {"message": "x"},
                    "requestState": state,
                    "inputResponses": {"elicitation-1": {"action": "accept", "content": {"a": 1}}},
                },
            ),
            ("initialize", _greeting()),
        ]
    return [
        *both,
        ("ping", {}),
        ("logging/setLevel", {"level": rng.choice(("info", "debug", "loud"))}),
        ("resources/subscribe", {"uri": "test://watched-resource"}),
        ("notifications/initialized", {}),
        ("notifications/cancelled", {"requestId": rng.choice(ODD_IDS)}),
        ("notifications/roots/list_changed", {}),
        ("notifications/progress", {"progressToken": "a", "progress": 1}),
    ]


def _greeting() -> dict[str, Any]:
    return {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}}


def _message(method: str, params: dict[str, Any], version: str) -> dict[str, Any]:
    meta: dict[str, Any] = {
        f"{META}protocolVersion": version,
        f"{META}clientCapabilities": {"elicitation": {"form": {}}},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}


def _headers(known: Known, method: str = "", name: str = "", version: str = "") -> list[tuple[str, str | bytes]]:
    told: list[tuple[str, str | bytes]] = [
        ("host", known.host),
        ("authorization", f"Bearer {known.token}"),
        ("content-type", TYPES[0]),
        ("accept", ACCEPTS[0]),
    ]
    if version:
        told.append(("mcp-protocol-version", version))
    if method:
        told.append(("mcp-method", method))
    if name:
        told.append(("mcp-name", name))
    return told


def _bend_tree(rng: Random, draft: Draft, known: Known) -> None:
    if isinstance(draft.tree, dict):
        draft.tree = values.bent(rng, draft.tree)
    elif draft.tree is None and rng.random() < 0.3:
        draft.tree = values.value(rng)
    if rng.random() < 0.05:
        draft.tree = [draft.tree] * rng.choice((1, 2, 50))


def _bend_header(rng: Random, draft: Draft, known: Known) -> None:
    headers, draw = draft.headers, rng.random()
    at = rng.randrange(2 if rng.random() < 0.9 and len(headers) > 2 else 0, len(headers))
    name, told = headers[at]
    if draw < 0.2:
        headers.pop(at)
    elif draw < 0.4:
        headers.insert(rng.randrange(len(headers)), (name.upper(), rng.choice((told, values.word(rng)))))
    elif draw < 0.55:
        kinds = {"content-type": TYPES, "accept": ACCEPTS, "mcp-protocol-version": VERSIONS}
        headers[at] = (name, rng.choice(kinds.get(name, values.ODD_WORDS)))
    elif draw < 0.7:
        headers[at] = (
            name,
            b" \t" + _bytes_of(told) + rng.choice(TAILS),
        )
    elif draw < 0.85:
        headers.append((rng.choice(("mcp-param-x", "Mcp-Param-Region", "mcp-param-")), values.word(rng)))
    elif draw < 0.9:
        headers += [(f"mcp-param-{number}", "x") for number in range(rng.choice((65, 200, 2000)))]
    elif draw < 0.95:
        headers.append((rng.choice(OTHERS), values.word(rng)))
    else:
        headers[at] = (name, "a" * rng.choice((8_000, 70_000)))


def _bend_place(rng: Random, draft: Draft, known: Known) -> None:
    if rng.random() < 0.6:
        draft.path = rng.choice((*PATHS, "/mcp/s/" + values.word(rng)[:200]))
    else:
        draft.method = rng.choice((b"POST", b"GET", b"DELETE", b"HEAD", b"PUT", b"post", b"CONNECT", b"\xff"))
        draft.streams = draft.streams or draft.method == b"GET"


def _bend_bytes(rng: Random, body: bytes) -> bytes:
    if not body:
        return rng.randbytes(rng.randint(0, 40))
    at = rng.randrange(len(body))
    return rng.choice((
        body[:at],
        body[:at] + rng.randbytes(rng.randint(1, 4)) + body[at:],
        body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :],
        b"\xef\xbb\xbf" + body,
        body + body,
        body + b"\n" * 5000,
        body.decode("utf-8", "replace").encode("utf-16"),
    ))  # fmt: skip


def _sent(rng: Random, draft: Draft, body: bytes) -> Shot:
    """The request in pieces, with its length told in one way or another."""
    draw, whole = rng.random(), True
    if draw < 0.72:
        raw = _head(draft, [(b"content-length", b"%d" % len(body))]) + body
    elif draw < 0.86:
        raw = _head(draft, [(b"transfer-encoding", b"chunked")]) + _chunked(rng, body)
    else:
        whole = False
        wrong: list[tuple[bytes, bytes]] = rng.choice((
            [(b"content-length", b"%d" % (len(body) + rng.choice((1, 100))))],
            [(b"content-length", b"%d" % max(len(body) - 1, 0))],
            [(b"content-length", b"-1")],
            [(b"content-length", b"9" * 30)],
            [(b"content-length", b"%d" % len(body)), (b"transfer-encoding", b"chunked")],
            [(b"content-length", b"%d" % len(body)), (b"content-length", b"0")],
            [(b"transfer-encoding", b"gzip, chunked")],
            [],
        ))  # fmt: skip
        raw = _head(draft, wrong) + body
        if rng.random() < 0.3:
            raw = raw[: rng.randrange(len(raw))]
    if whole and not draft.streams and rng.random() < 0.05:
        raw += raw * rng.choice((1, 3))  # pipelined
    pieces, paused = [raw], False
    if rng.random() < 0.1:
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.choice((1, 2, 6))))
        pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        paused = rng.random() < 0.3
    return Shot(tuple(piece for piece in pieces if piece), whole, draft.streams, paused)


def _chunked(rng: Random, body: bytes) -> bytes:
    told, rest = b"", body
    while rest:
        size = min(len(rest), rng.choice((1, 7, 100, 100_000)) if len(body) < 5_000 else 100_000)
        told += b"%x%b\r\n%b\r\n" % (size, rng.choice((b"", b";a=b", b"")), rest[:size])
        rest = rest[size:]
    return told + b"0\r\n" + rng.choice((b"", b"", b"x-trailer: 1\r\n")) + b"\r\n"


def _head(draft: Draft, more: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (draft.method, draft.path.encode("utf-8", "surrogatepass"))]
    lines += [b"%b: %b" % (_bytes_of(name), _bytes_of(told)) for name, told in draft.headers]
    lines += [b"%b: %b" % pair for pair in more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _bytes_of(told: str | bytes) -> bytes:
    return told if isinstance(told, bytes) else told.encode("utf-8", "surrogatepass")
