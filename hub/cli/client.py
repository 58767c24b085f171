"""How the commands reach their hub: the admin API and MCP over the socket that makes whoever opens it administrator.

Light on purpose: neither the hub nor its database is imported, so that a command starts quickly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from hub.cli.console import NotRunning
from hub.errors import HubError, InvalidParams, Unavailable
from hub.settings import Settings
from hub.upstream.modern_http import VERSION, envelope, header_value

CLIENT = {"name": "entrepot-cli", "version": "1"}
PREFIX = "/api/v1"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
"""For an answer of the admin API; what probes or installs is given `LONG_SECONDS`."""
LONG_SECONDS = 600.0
QUIET_SECONDS = 30.0
"""Beyond the hub's own limit on a call, so that its error arrives rather than ours."""

OnProgress = Callable[[str], None]
"""Told how far a call is, in words."""


class Refused(HubError):
    """The hub answered with an error; it keeps the hub's words, owner and status."""

    def __init__(self, problem: Mapping[str, Any], status: int) -> None:
        super().__init__(
            str(problem.get("detail") or problem.get("title") or f"The hub answered {status}"),
            hint=str(problem.get("hint") or ""),
        )
        self.status = status
        self.code = str(problem.get("code") or "internal")
        self.owner = problem.get("owner") or "hub"
        self.trace = str(problem.get("trace") or "")


class AdminClient:
    """A connection to the hub of one `ENTREPOT_HOME`, as its local administrator. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(settings.admin_socket)),
            base_url="http://hub",
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, *, seconds: float = ANSWER_SECONDS, **query: Any) -> Any:
        """The answer to a GET; empty values are left out of the query."""
        return self._asked("GET", path, query, seconds)

    def post(self, path: str, body: Any = None, *, seconds: float = ANSWER_SECONDS, **query: Any) -> Any:
        """The answer to a POST of JSON."""
        return self._asked("POST", path, query, seconds, json={} if body is None else body)

    def post_text(self, path: str, text: bytes, *, seconds: float = LONG_SECONDS, **query: Any) -> Any:
        """The answer to a POST of a file that is YAML or JSON."""
        return self._asked("POST", path, query, seconds, content=text, headers={"content-type": "application/yaml"})

    def put(self, path: str, body: Any) -> Any:
        """The answer to a PUT of JSON."""
        return self._asked("PUT", path, {}, json=body)

    def delete(self, path: str, **query: Any) -> None:
        """Delete what the path names."""
        self._asked("DELETE", path, query)

    def mcp(self, endpoint: str, method: str, params: dict[str, Any], told: OnProgress | None = None) -> dict[str, Any]:
        """The result of one modern MCP request. Raises `HubError` with the hub's or the server's words."""
        token = {"progressToken": "cli"} if told else {}
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": params | {"_meta": envelope({}, CLIENT, **token)},
        }
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
            "mcp-method": method,
        }
        if "name" in params:
            headers["mcp-name"] = header_value(params["name"]).decode()
        timeout = httpx.Timeout(self._settings.call_seconds + QUIET_SECONDS, connect=CONNECT_SECONDS)
        with (
            self._reaching(),
            self._http.stream("POST", endpoint, json=message, headers=headers, timeout=timeout) as answer,
        ):
            return _result(_messages(answer), told)

    def tools(self, endpoint: str) -> list[dict[str, Any]]:
        """Every tool of an endpoint, all pages."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            result = self.mcp(endpoint, "tools/list", page)
            found += result.get("tools", [])
            if not result.get("nextCursor"):
                return found
            page = {"cursor": result["nextCursor"]}

    def _asked(
        self, method: str, path: str, query: Mapping[str, Any], seconds: float = ANSWER_SECONDS, **sent: Any
    ) -> Any:
        kept = {name: value for name, value in query.items() if value not in (None, "", False)}
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        with self._reaching():
            answer = self._http.request(method, PREFIX + path, params=kept, timeout=timeout, **sent)
        if answer.is_error:
            raise Refused(_object(answer), answer.status_code)
        return answer.json() if answer.content else None

    @contextmanager
    def _reaching(self) -> Generator[None]:
        """Errors of the way to the hub, as ours."""
        try:
            yield
        except httpx.ConnectError as error:
            raise NotRunning(
                f"No hub is running for {self._settings.home}",
                hint="`entrepot up --detach` starts it; ENTREPOT_HOME chooses another home.",
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(
                "The hub did not answer in time", hint="`entrepot doctor` looks for the reason."
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The connection to the hub broke: {error}", hint="Try again; `entrepot logs` shows what happened."
            ) from error


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _messages(answer: httpx.Response) -> Generator[dict[str, Any]]:
    """The JSON-RPC messages of an answer, as they come."""
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.read()
        message = _object(answer)
        if "result" not in message and "error" not in message:
            raise Refused(message, answer.status_code)
        yield message
        return
    data: list[str] = []
    for line in answer.iter_lines():
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []
    if data:
        yield json.loads("\n".join(data))


def _result(messages: Iterable[dict[str, Any]], told: OnProgress | None) -> dict[str, Any]:
    for message in messages:
        if "method" in message:
            if told and message["method"] == "notifications/progress":
                told(_how_far(message.get("params", {})))
            continue
        if "error" in message:
            raise _rpc_error(message["error"])
        return message.get("result", {})
    raise Unavailable("The answer ended early", hint="Try again; `entrepot logs` shows what happened.")


def _rpc_error(error: Mapping[str, Any]) -> HubError:
    data: Any = error.get("data")
    told = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    if error.get("code") == InvalidParams.rpc:
        return InvalidParams(str(error.get("message")), hint=str(told.get("hint", "")))
    status = {"forbidden": 403, "unauthenticated": 401, "not-found": 404}.get(str(told.get("code")), 500)
    return Refused(told | {"detail": error.get("message")}, status)


def _how_far(params: Mapping[str, Any]) -> str:
    done, total = params.get("progress"), params.get("total")
    counted = f"{done:g} of {total:g}" if isinstance(done, int | float) and isinstance(total, int | float) else ""
    return " · ".join(part for part in (counted, str(params.get("message") or "")) if part)


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
