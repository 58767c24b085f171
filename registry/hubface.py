"""The hub as one signed-in person may use it: admin API, MCP and models, all in process, with faults made readable.

Nothing here decides who may do what; the hub's admission does, for this face as for every other.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote, urlencode

import orjson
from pydantic import TypeAdapter, ValidationError

from hub.identity.principal import Principal
from hub.inprocess import Answer

T = TypeVar("T")

PROTOCOL = "2026-07-28"
META = "io.modelcontextprotocol/"
TASKS = "io.modelcontextprotocol/tasks"


class Api(Protocol):
    """The in-process caller: `hub.inprocess.InProcess`."""

    async def request(
        self,
        principal: Principal,
        method: str,
        path: str,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask the hub for `path` as `principal`."""
        ...


class Fault(Exception):
    """Something that the hub refused or could not do, with what a person needs to go on.

    `code` is the stable word, `owner` who must act, `hint` the next step, `trace` what joins it to logs and audit,
    `fields` the messages that belong to one field of a form.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        owner: str = "hub",
        hint: str = "",
        trace: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.owner = owner
        self.hint = hint
        self.trace = trace
        self.fields = dict(fields or {})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a JSON-RPC request came back with; exactly one of `result` and `error` is set."""

    result: dict[str, Any] | None
    error: dict[str, Any] | None
    milliseconds: float
    trace: str


@dataclass(frozen=True, slots=True)
class HubFace:
    """The hub, as `principal`."""

    api: Api
    principal: Principal

    async def get(self, path: str, **query: str | int | None) -> Any:
        """GET below `/api/v1`; empty query values are left out. Raises Fault."""
        return await self._ask("GET", with_query(path, query))

    async def post(self, path: str, json: Any = None, **query: str | int | None) -> Any:
        """POST below `/api/v1`. Raises Fault."""
        return await self._ask("POST", with_query(path, query), {} if json is None else json)

    async def put(self, path: str, json: Any) -> Any:
        """PUT below `/api/v1`. Raises Fault."""
        return await self._ask("PUT", path, json)

    async def delete(self, path: str) -> None:
        """DELETE below `/api/v1`. Raises Fault."""
        await self._ask("DELETE", path)

    async def mcp(self, endpoint: str, method: str, params: dict[str, Any], *, tasks: bool = False) -> Reply:
        """One JSON-RPC request of protocol 2026-07-28 to one of the hub's endpoints (`/mcp`, `/mcp/s/NAME`).

        `tasks` declares the Tasks extension, so that long work may be answered with a task. Raises Fault where
        the answer is not JSON-RPC at all.
        """
        trace = secrets.token_hex(16)
        parent = f"00-{trace}-{secrets.token_hex(8)}-01"
        capabilities: dict[str, Any] = {"extensions": {TASKS: {}}} if tasks else {}
        meta = {
            META + "protocolVersion": PROTOCOL,
            META + "clientCapabilities": capabilities,
            META + "clientInfo": {"name": "entrepot-registry", "version": "1"},
            "traceparent": parent,
        }
        headers = {"mcp-protocol-version": PROTOCOL, "mcp-method": method, "traceparent": parent}
        name = params.get("name", params.get("uri"))
        if isinstance(name, str):
            headers["mcp-name"] = mirrored(name)
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}
        began = time.perf_counter()
        answer = await self.api.request(self.principal, "POST", endpoint, json=body, headers=headers)
        spent = (time.perf_counter() - began) * 1000
        message = response_in(answer)
        if message is None:
            raise fault_of(answer, trace)
        return Reply(message.get("result"), message.get("error"), spent, trace)

    async def chat(self, model: str, messages: list[dict[str, str]], *, tokens: int = 256) -> tuple[str, float]:
        """One completion and its milliseconds. Raises Fault."""
        body = {"model": model, "messages": messages, "max_tokens": tokens}
        began = time.perf_counter()
        answer = await self.api.request(self.principal, "POST", "/v1/chat/completions", json=body)
        spent = (time.perf_counter() - began) * 1000
        if answer.status >= 400:
            raise fault_of(answer)
        try:
            return str(answer.json()["choices"][0]["message"]["content"] or ""), spent
        except (orjson.JSONDecodeError, LookupError, TypeError) as reason:
            raise unreadable("/v1/chat/completions") from reason

    async def _ask(self, method: str, path: str, json: Any = None) -> Any:
        answer = await self.api.request(self.principal, method, f"/api/v1{path}", json=json)
        if answer.status >= 400:
            raise fault_of(answer)
        try:
            return answer.json()
        except orjson.JSONDecodeError as reason:
            raise unreadable(path) from reason


def read(shape: type[T], answer: Any, key: str = "") -> T:
    """An answer, or the part of it under `key`, as `shape`. Raises Fault when it does not fit."""
    try:
        return TypeAdapter(shape).validate_python(answer[key] if key else answer)
    except (ValidationError, LookupError, TypeError) as reason:
        raise unreadable(key or getattr(shape, "__name__", "answer")) from reason


def unreadable(what: str) -> Fault:
    """The hub answered, in a form that these pages do not know."""
    return Fault(502, "unreadable", f"The answer about {what} has a form that this page does not know.")


def fault_of(answer: Answer, trace: str = "") -> Fault:
    """An answer above 399 as a Fault, whether it is an RFC 9457 problem, an OpenAI error or nothing readable."""
    try:
        told = answer.json()
    except orjson.JSONDecodeError:
        told = None
    problem = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    inner = problem.get("error")
    if isinstance(inner, dict):
        problem = problem | cast("dict[str, Any]", inner)
    message = str(problem.get("detail") or problem.get("message") or problem.get("title") or f"HTTP {answer.status}")
    return Fault(
        answer.status,
        str(problem.get("code") or f"http-{answer.status}"),
        message,
        owner=str(problem.get("owner") or "hub"),
        hint=str(problem.get("hint") or ""),
        trace=str(problem.get("trace") or trace),
        fields=field_messages(problem.get("errors")),
    )


def field_messages(errors: Any) -> dict[str, str]:
    """Messages by field, from the list that a validation problem carries."""
    found: dict[str, str] = {}
    for error in cast("list[Any]", errors) if isinstance(errors, list) else []:
        if not isinstance(error, dict):
            continue
        told = cast("dict[str, Any]", error)
        where: Any = told.get("field") or told.get("loc") or ""
        name = str(cast("list[Any]", where)[-1] if isinstance(where, list) and where else cast(Any, where))
        found[name] = str(told.get("message") or told.get("msg") or "")
    return found


def response_in(answer: Answer) -> dict[str, Any] | None:
    """The JSON-RPC response in an answer, plain or as the last message of an event stream; None when there is none."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        bodies = events_in(answer.body.decode("utf-8", "replace"))
    else:
        bodies = [answer.body.decode("utf-8", "replace")]
    for body in reversed(bodies):
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            continue
        if isinstance(message, dict) and ("result" in message or isinstance(message.get("error"), dict)):
            found = cast("dict[str, Any]", message)
            return found if found.get("jsonrpc") == "2.0" else None
    return None


def events_in(stream: str) -> list[str]:
    """The data of each event of an event stream (WHATWG HTML §9.2.6)."""
    events: list[str] = []
    for block in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if lines:
            events.append("\n".join(lines))
    return events


def mirrored(value: str) -> str:
    """A value for an `Mcp-*` header; what plain ASCII cannot carry travels as base64 (2026-07-28, headers)."""
    if value and value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def with_query(path: str, query: Mapping[str, str | int | None]) -> str:
    """`path` with those query values that are set."""
    kept = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
