"""The server: one tool for each operation of the description, and the settings that say which API that is."""

from __future__ import annotations

import argparse
import json
import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from pydantic import ConfigDict, Field

from servers.kit import Application, BundledServer, Environment, Fault, SettingsFault, Variable, main, our_version
from servers.openapi.call import Api, call
from servers.openapi.document import load
from servers.openapi.operations import Offer, Operation, origin, read

ABOUT = "Offer the operations of an HTTP API as tools, from its OpenAPI 3 description."
VARIABLES = (
    Variable("ENTREPOT_OPENAPI_SPEC", "URL or file of the description; also --spec"),
    Variable(
        "ENTREPOT_OPENAPI_BASE_URL",
        "where the API is; also --base-url",
        "the first server of the description, which must have the origin of its URL",
    ),
    Variable("ENTREPOT_OPENAPI_HEADERS", 'headers of every request to the API, {"name": "value", ...}'),
    Variable("ENTREPOT_OPENAPI_HEADER_FILE", "file with such headers, one `Name: value` a line; also --header-file"),
)
LARGEST_HEADER_FILE = 65_536
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

log = logging.getLogger("servers.openapi")


class OperationTool(Tool):
    """An operation as the SDK keeps tools; its schemas are the description's, so nothing is made of a signature."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    operation: Operation = Field(exclude=True)
    api: Api = Field(exclude=True)

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Call the operation. Raises `ToolError` around a `Fault`, or `UnexpectedToolError`."""
        try:
            return await call(self.api, self.operation, arguments)
        except Fault as fault:
            raise ToolError(str(fault)) from fault
        except Exception as error:  # the boundary where the SDK expects its own error for a crash
            raise UnexpectedToolError(f"Error executing tool {self.name}") from error


def application(environment: Environment) -> Application:
    """The server for the API that `environment` names. Blocks while it fetches. Raises `SettingsFault`."""
    spec = environment.text("ENTREPOT_OPENAPI_SPEC")
    if not spec:
        raise SettingsFault("Give the URL or file of the OpenAPI description with --spec or ENTREPOT_OPENAPI_SPEC.")
    base_url = environment.text("ENTREPOT_OPENAPI_BASE_URL")
    headers = _headers(environment)
    remote = spec.startswith(("http://", "https://"))
    try:
        home = origin(spec) if remote else ""
        target = origin(base_url) if base_url else home
    except ValueError:
        raise SettingsFault("A URL starts with http:// or https://, names a host and holds no credentials.") from None
    if base_url and re.search(r"[\x00-\x20\x7f\\?#]", base_url):
        raise SettingsFault("The base URL has no query, no fragment and no spaces.")
    if not target:
        raise SettingsFault("A description in a file does not say where its API is; give --base-url.")
    # The credential belongs to the API; whoever only keeps its description does not get it.
    tls = ssl.create_default_context()
    document = load(spec, headers if home == target else {}, tls)
    offer = read(document, spec=spec, base_url=base_url, given_headers=frozenset(name.lower() for name in headers))
    for reason in offer.left_out:
        log.warning("operation left out", extra={"fields": {"reason": reason}})
    return Application(_server(offer, Api(headers, tls)))


def run(argv: Sequence[str]) -> int:
    """Serve until the transport ends. Returns the exit code."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option, name in (
        ("--spec", "ENTREPOT_OPENAPI_SPEC"),
        ("--base-url", "ENTREPOT_OPENAPI_BASE_URL"),
        ("--header-file", "ENTREPOT_OPENAPI_HEADER_FILE"),
    ):
        parser.add_argument(option, dest=name)
    options, rest = parser.parse_known_args(argv)
    given = {name: value for name, value in vars(options).items() if value is not None}
    return main("openapi", ABOUT, VARIABLES, partial(_made, given), rest)


def _made(given: Mapping[str, str], environment: Environment) -> Application:
    return application(Environment({**environment.values, **given}))


def _server(offer: Offer, api: Api) -> BundledServer:
    tools = [_tool(operation, api) for operation in offer.operations]
    server = BundledServer(
        "openapi",
        title=offer.title or "HTTP API",
        description=ABOUT,
        instructions=offer.description or None,
        version=our_version(),
        tools=cast("list[Tool]", tools),
    )
    return server


def _tool(operation: Operation, api: Api) -> OperationTool:
    return OperationTool(
        fn=call,
        name=operation.tool,
        title=operation.title or None,
        description=operation.description,
        parameters=operation.input_schema,
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=operation.output_schema),
        is_async=True,
        context_kwarg=None,
        annotations=operation.annotations,
        operation=operation,
        api=api,
    )


def _headers(environment: Environment) -> dict[str, str]:
    """The administrator's headers, from both sources. Raises `SettingsFault` that quotes no value."""
    found: dict[str, str] = {}
    if path := environment.path("ENTREPOT_OPENAPI_HEADER_FILE"):
        found |= _header_file(path)
    if text := environment.text("ENTREPOT_OPENAPI_HEADERS"):
        try:
            value: Any = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise SettingsFault('ENTREPOT_OPENAPI_HEADERS must be a JSON object of {"name": "value", ...}.')
        found |= {str(name): str(item) for name, item in cast("dict[str, Any]", value).items()}
    for name, value in found.items():
        if not _HEADER.fullmatch(name) or name.lower() in ("host", "content-length", "transfer-encoding", "connection"):
            raise SettingsFault(f"{name[:40]!r} is not a header that can be given.")
        if not value.isascii() or not value.isprintable():
            raise SettingsFault(f"The value of the header {name} is not one line of printable ASCII.")
    return found


def _header_file(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_HEADER_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFault(f"The header file {path} cannot be read: {type(error).__name__}.") from None
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise SettingsFault(f"A line of the header file {path} is not `Name: value`.")
        found[name.strip()] = value.strip()
    return found
