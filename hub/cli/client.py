"""How the commands reach their hub: the admin API and MCP over the socket that makes whoever opens it administrator.

Light on purpose: neither the hub nor its database is imported, and the standard library's HTTP does for a local
socket, so that a command starts quickly.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import quote, urlencode

from hub.cli.console import NotRunning
from hub.errors import Forbidden, HubError, InvalidParams, Unavailable
from hub.settings import Settings
from hub.upstream.modern_http import VERSION, envelope, header_value

CLIENT = {"name": "entrepot-cli", "version": "1"}
PREFIX = "/api/v1"
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
            data={name: problem[name] for name in ("stderr", "retryAfter") if name in problem},
        )
        self.status = status
        self.code = str(problem.get("code") or "internal")
        self.owner = problem.get("owner") or "hub"
        self.trace = str(problem.get("trace") or "")


class AdminClient:
    """The hub of one `ENTREPOT_HOME`, spoken to as its local administrator; a connection for each request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get(self, path: str, *, seconds: float = ANSWER_SECONDS, **query: Any) -> Any:
        """The answer to a GET; empty values are left out of the query."""
        return self._asked("GET", path, query, seconds=seconds)

    def post(self, path: str, body: Any = None, *, seconds: float = ANSWER_SECONDS, **query: Any) -> Any:
        """The answer to a POST of JSON."""
        return self._asked("POST", path, query, {} if body is None else body, seconds)

    def post_text(self, path: str, text: bytes, *, seconds: float = LONG_SECONDS, **query: Any) -> Any:
        """The answer to a POST of a file that is YAML or JSON."""
        return self._asked("POST", path, query, text, seconds, "application/yaml")

    def lines(
        self, path: str, body: Any, *, seconds: float = ANSWER_SECONDS, **query: Any
    ) -> Generator[dict[str, Any]]:
        """The answer to a POST that is told in lines of JSON, each as it comes. A line that is an error is raised."""
        sent = None if body is None else json.dumps(body).encode()
        with self._answer("POST", _target(path, query), sent, {"content-type": "application/json"}, seconds) as answer:
            if answer.status >= 400:
                raise Refused(_object(answer.read()), answer.status)
            for line in answer:
                told = _object(line)
                if "error" in told:
                    raise Refused(told["error"], int(told["error"].get("status", 500)))
                yield told

    def patch(self, path: str, body: Any) -> Any:
        """The answer to a PATCH of JSON."""
        return self._asked("PATCH", path, {}, body)

    def put(self, path: str, body: Any) -> Any:
        """The answer to a PUT of JSON."""
        return self._asked("PUT", path, {}, body)

    def put_text(self, path: str, text: bytes) -> Any:
        """The answer to a PUT of a file that is YAML or JSON."""
        return self._asked("PUT", path, {}, text, LONG_SECONDS, "application/yaml")

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
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
            "mcp-method": method,
        }
        if "name" in params:
            headers["mcp-name"] = header_value(params["name"]).decode()
        seconds = self._settings.call_seconds + QUIET_SECONDS
        with self._answer("POST", endpoint, json.dumps(message).encode(), headers, seconds) as answer:
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
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any = None,
        seconds: float = ANSWER_SECONDS,
        kind: str = "application/json",
    ) -> Any:
        target = _target(path, query)
        sent = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        with self._answer(method, target, sent, {"content-type": kind}, seconds) as answer:
            content = answer.read()
            if answer.status >= 400:
                raise Refused(_object(content), answer.status)
        return json.loads(content) if content else None

    @contextmanager
    def _answer(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> Generator[HTTPResponse]:
        """The answer to one request while it is read; errors of the way to the hub become ours."""
        try:
            with closing(_Local(str(self._settings.admin_socket), seconds)) as connection:
                connection.request(method, target, body, dict(headers))
                with connection.getresponse() as answer:
                    yield answer
        except PermissionError as error:
            raise Forbidden(
                f"The hub of {self._settings.home} belongs to another user",
                hint="Run this as that user, or use the web pages with a sign-in link.",
            ) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(
                f"No hub is running for {self._settings.home}",
                hint="`entrepot up --detach` starts it; ENTREPOT_HOME chooses another home.",
            ) from error
        except TimeoutError as error:
            raise Unavailable(
                "The hub did not answer in time", hint="`entrepot doctor` looks for the reason."
            ) from error
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(
                f"The connection to the hub broke: {error}", hint="Try again; `entrepot logs` shows what happened."
            ) from error


class _Local(HTTPConnection):
    """HTTP over a local socket. `seconds` bounds every wait for the next bytes."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("hub", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Reach the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _target(path: str, query: Mapping[str, Any]) -> str:
    kept = {name: _worded(value) for name, value in query.items() if value not in (None, "", False)}
    return PREFIX + path + (f"?{urlencode(kept)}" if kept else "")


def _messages(answer: HTTPResponse) -> Generator[dict[str, Any]]:
    """The JSON-RPC messages of an answer, as they come."""
    if not (answer.getheader("content-type") or "").startswith("text/event-stream"):
        message = _object(answer.read())
        if "result" not in message and "error" not in message:
            raise Refused(message, answer.status)
        yield message
        return
    data: list[bytes] = []
    for line in answer:
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line[5:])
        elif not line and data:
            yield json.loads(b"\n".join(data))
            data = []


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


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _worded(value: Any) -> str:
    return "true" if value is True else str(value)
