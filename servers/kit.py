"""What every bundled server shares: start, settings from the environment, errors that say who must act, and quiet logs.

A server is an `Application`: an SDK server plus the context in which its background work lives. `main` serves it over
stdio, TCP or a unix socket, in both protocol eras. The client for the platform's admin API is in `servers/platform.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import sys
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import anyio
import mcp_types as types
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

Owner = Literal["caller", "administrator", "server"]

READS = types.ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
"""Annotations of a tool that changes nothing and looks at nothing outside its own sources."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "runner")
"""Host names a loopback or unix-socket listener answers to; `runner` is what the platform's runner sends."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Fault(ToolError):
    """A failure the tool foresaw: what happened, who must act and what to do next. Shown to the caller as it is."""

    def __init__(self, message: str, *, code: str, owner: Owner = "caller", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.owner: Owner = owner
        self.hint = hint

    def result(self) -> types.CallToolResult:
        """The tool result for this failure: text for a model, the same as data under `_meta`."""
        lines = [str(self)]
        if self.hint:
            lines.append(f"Next step ({self.owner}): {self.hint}")
        told = {"code": self.code, "owner": self.owner, "hint": self.hint}
        return types.CallToolResult(
            content=[types.TextContent(type="text", text="\n".join(lines))],
            is_error=True,
            _meta={"dev.entrepot/error": told},
        )


class SettingsFault(Exception):
    """An environment variable cannot be used; the text names it and what is accepted."""


@dataclass(frozen=True)
class Variable:
    """One environment variable of a server, as its `--help` shows it."""

    name: str
    help: str
    default: str = ""


@dataclass(frozen=True)
class Environment:
    """Reads settings from a mapping, with bounds, and names the variable when a value cannot be used."""

    values: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def text(self, name: str, default: str = "") -> str:
        """The value of `name`, without surrounding white space."""
        return self.values.get(name, "").strip() or default

    def path(self, name: str, default: Path | None = None) -> Path | None:
        """The value of `name` as an absolute path."""
        value = self.text(name)
        return Path(value).expanduser().absolute() if value else default

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """The value of `name` as a whole number from `low` to `high`. Raises SettingsFault."""
        value = self.text(name)
        if not value:
            return default
        try:
            number = int(value)
        except ValueError:
            raise SettingsFault(f"{name} must be a whole number, not {value!r}.") from None
        if not low <= number <= high:
            raise SettingsFault(f"{name} must be from {low} to {high}, not {number}.")
        return number

    def state_dir(self, server: str) -> Path:
        """Where `server` keeps its own files: ENTREPOT_STATE_DIR, else below the user's state folder."""
        chosen = self.path("ENTREPOT_STATE_DIR")
        if chosen is not None:
            return chosen
        base = self.path("XDG_STATE_HOME", Path.home() / ".local" / "state")
        assert base is not None
        return base / "entrepot" / "servers" / server


STATE_DIR = Variable("ENTREPOT_STATE_DIR", "folder for the server's own files", "~/.local/state/entrepot/servers/NAME")


class BundledServer(MCPServer[Any]):
    """The SDK's server with our rendering of failures, and one log line per call that never holds an argument."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Call a tool; every failure but an unknown name becomes an `isError` result that says who must act."""
        log = logging.getLogger(f"servers.{self.name}")
        if self._tool_manager.get_tool(name) is None:
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {name[:100]}")
        started = anyio.current_time()
        outcome = "ok"
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            outcome = "crash"
            return _crash(log, name, error.__cause__ or error)
        except ToolError as error:
            cause = error.__cause__
            outcome = cause.code if isinstance(cause, Fault) else "invalid-arguments"
            return _foreseen(error).result()
        finally:
            milliseconds = round((anyio.current_time() - started) * 1000)
            log.info("tool call", extra={"fields": {"tool": name, "outcome": outcome, "milliseconds": milliseconds}})


def _foreseen(error: ToolError) -> Fault:
    cause = error.__cause__
    if isinstance(cause, Fault):
        return cause
    if isinstance(cause, ValidationError):
        # Field and rule only: the rejected value is the caller's and may be long or secret.
        rules = [f"{'.'.join(str(part) for part in e['loc']) or 'arguments'}: {e['msg']}" for e in cause.errors()]
        return Fault(
            "The arguments do not fit the tool's input schema. " + "; ".join(rules[:10]),
            code="invalid-arguments",
            hint="Correct the named arguments and call again.",
        )
    return Fault(str(error), code="failed")


def _crash(log: logging.Logger, tool: str, error: BaseException) -> types.CallToolResult:
    number = secrets.token_hex(6)
    # Class and places, not the message: an exception's text may quote an argument.
    frames = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    log.error(
        "tool crashed",
        extra={"fields": {"tool": tool, "error_id": number, "class": type(error).__name__, "frames": frames[-12:]}},
    )
    return Fault(
        f"The tool failed unexpectedly. Error id: {number}.",
        code="internal",
        owner="administrator",
        hint=f"Look for error id {number} in this server's log; calling again unchanged is unlikely to help.",
    ).result()


@dataclass(frozen=True)
class Application:
    """A server and its background work: `running` is entered once, around whichever transport serves it."""

    server: BundledServer
    running: Callable[[], AbstractContextManager[Any]] = nullcontext


def our_version() -> str:
    """The installed version of the distribution, or `0` from a bare source tree."""
    try:
        return version("entrepot")
    except PackageNotFoundError:
        return "0"


class JsonLines(logging.Formatter):
    """One JSON object per line: at, level, source, message, and the fields the caller chose."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record; foreign loggers' tracebacks are reduced to the exception's class."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "source": record.name,
            "message": record.getMessage(),
        }
        fields: object = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info and record.exc_info[0]:
            line["class"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(level: str) -> None:
    """Send every log line to stderr as JSON; stdout belongs to the protocol."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These repeat peers' input, or a line per request, at info.
    for noisy in ("mcp", "httpx", "httpcore", "uvicorn.access", "chromadb", "sqlglot"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def http_app(server: BundledServer, hosts: Sequence[str] = ()) -> Any:
    """The ASGI application of `server`: MCP in both eras at `/mcp`, and `/readyz`.

    A request must name one of LOCAL_HOSTS or `hosts` in its Host header, and in Origin where it sends one, so that a
    web page cannot reach a loopback listener through DNS rebinding.
    """
    names = [*LOCAL_HOSTS, *hosts]

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    server.custom_route("/readyz", methods=["GET"])(readyz)
    return server.streamable_http_app(
        streamable_http_path="/mcp",
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[*names, *(f"{name}:*" for name in names)],
            allowed_origins=[f"http://{name}{port}" for name in names for port in ("", ":*")],
        ),
    )


@contextmanager
def _unix_listener(path: Path):
    """A listening unix socket of mode 0600 that replaces a stale one and is removed afterwards."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


class _HttpServer(uvicorn.Server):
    """Ends on a signal without raising it again, as uvicorn would: what is around the server must still be closed."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)
        for number in caught:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)


async def _serve_http(app: Any, listener: socket.socket) -> None:
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3, lifespan="on")
    await _HttpServer(config).serve(sockets=[listener])


def _parser(name: str, about: str, variables: Sequence[Variable]) -> argparse.ArgumentParser:
    rows = [f"  {v.name}\n      {v.help}" + (f" (default: {v.default})" if v.default else "") for v in variables]
    parser = argparse.ArgumentParser(
        prog=f"python -m servers.{name}",
        description=f"{about} Speaks MCP over stdio unless --http or --uds is given.",
        epilog="environment:\n" + "\n".join(rows) + "\n\nexit codes: 0 stopped, 2 settings or arguments unusable",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--http", metavar="HOST:PORT", help="serve streamable HTTP at http://HOST:PORT/mcp")
    where.add_argument("--uds", metavar="PATH", type=Path, help="serve streamable HTTP on a unix socket (mode 0600)")
    parser.add_argument(
        "--allow-remote", action="store_true", help="let --http listen beyond loopback; there is no sign-in"
    )
    parser.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="a further accepted Host name"
    )
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return parser


def _tcp_listener(parser: argparse.ArgumentParser, address: str, allow_remote: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        parser.error("--http takes HOST:PORT, such as 127.0.0.1:8700")
    if host not in _LOOPBACK and not allow_remote:
        parser.error(f"{host} is not loopback; add --allow-remote if everyone who can reach it may call these tools")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        parser.error(f"cannot listen on {address}: {error.strerror}")


def main(
    name: str,
    about: str,
    variables: Sequence[Variable],
    make: Callable[[Environment], Application],
    argv: Sequence[str] | None = None,
) -> int:
    """Serve the application `make` builds until its transport ends. Returns the exit code."""
    parser = _parser(name, about, variables)
    options = parser.parse_args(argv)
    try:
        application = make(Environment())
    except SettingsFault as fault:
        print(f"servers.{name}: {fault}", file=sys.stderr)
        return 2
    log_to_stderr(options.log_level)
    server = application.server
    with application.running():
        if options.uds is not None:
            with _unix_listener(options.uds) as listener:
                anyio.run(_serve_http, http_app(server, options.allow_host), listener)
        elif options.http is not None:
            with _tcp_listener(parser, options.http, options.allow_remote) as listener:
                anyio.run(_serve_http, http_app(server, options.allow_host), listener)
        else:
            anyio.run(server.run_stdio_async)
    return 0


@asynccontextmanager
async def progress(context: Context[Any, Any], message: str, every: float = 1.0) -> AsyncGenerator[None]:
    """Report `message` with the seconds waited, every `every` seconds, while the block runs."""

    async def tell() -> None:
        waited = 0
        while True:
            await context.report_progress(waited, None, message)
            await anyio.sleep(every)
            waited += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tell)
        yield
        group.cancel_scope.cancel()
