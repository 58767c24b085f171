"""One row of the admin API, and the one way every row is served: admit, parse, call, render.

Admission comes before parsing, so that a caller without the right learns nothing from error messages.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.admin_api.admit import admit
from hub.admin_api.problem import problem
from hub.admin_api.services import Services
from hub.catalog import manifest
from hub.errors import BadRequest, HubError, InvalidParams, TooLarge, Unauthenticated
from hub.identity.principal import Principal
from hub.ids import new_id

log = logging.getLogger(__name__)

PREFIX = "/api/v1"

Action = Literal["admin:read", "admin:write"]


class NoBody(BaseModel):
    """The answer has no body."""


class NoQuery(BaseModel):
    """The request has no query."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was admitted and parsed. `body` and `query` are of the classes that the endpoint names."""

    principal: Principal
    path: dict[str, str]
    query: Any
    body: Any
    trace: str


Handler = Callable[[Services, Asked], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path. `body` None: none is read."""

    method: str
    path: str
    name: str
    summary: str
    action: Action
    handler: Handler
    answer: type[BaseModel]
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    dry_status: int = 0
    """The status when the query's `dry_run` holds, where it differs."""
    yaml: bool = False
    """Whether YAML is taken beside JSON."""

    def route(self, services: Services) -> Route:
        """The Starlette route."""

        async def serve(request: Request) -> Response:
            return await _serve(self, services, request)

        return Route(PREFIX + self.path, serve, methods=[self.method], name=self.name)


async def _serve(endpoint: Endpoint, services: Services, request: Request) -> Response:
    trace = _trace(request)
    try:
        principal = request.scope.get("principal")
        if not isinstance(principal, Principal):
            raise Unauthenticated("This needs a key.", hint="Make one with: entrepot tokens create NAME --scope admin")
        admit(services.admission, services.audit, principal, endpoint.action, operation=endpoint.name, trace=trace)
        asked = Asked(
            principal,
            {name: str(value) for name, value in request.path_params.items()},
            _parsed(endpoint.query, _query(request)),
            await _body(endpoint, services, request),
            trace,
        )
        result = await endpoint.handler(services, asked)
    except HubError as error:
        log.info("%s %s: %s (%s)", endpoint.method, endpoint.name, error.code, trace)
        return problem(error, trace)
    except Exception:
        log.exception("%s %s failed (%s)", endpoint.method, endpoint.name, trace)
        return problem(HubError("Something went wrong inside the hub.", hint=f"Look for {trace} in the logs."), trace)
    if isinstance(result, Response):
        return result
    headers = {"cache-control": "no-store"}
    if endpoint.status == 204:
        return Response(None, 204, headers)
    content = result if isinstance(result, dict | list) else cast(BaseModel, result).model_dump(mode="json")  # pyright: ignore[reportUnknownVariableType] - any JSON
    dry = endpoint.dry_status and getattr(asked.query, "dry_run", False)
    status = endpoint.dry_status if dry else endpoint.status
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _body(endpoint: Endpoint, services: Services, request: Request) -> Any:
    if endpoint.body is None:
        return None
    given = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    allowed = given.endswith("json") or (endpoint.yaml and given.endswith("yaml"))
    if not allowed and not (endpoint.yaml and given in ("text/plain", "application/octet-stream")):
        # Also keeps plain HTML forms of other sites out: they cannot send JSON.
        raise BadRequest(f"A body of type {given!r} is not taken here.", hint="Send application/json.")
    limit = min(services.settings.max_body_bytes, manifest.LARGEST_FILE)
    collected = bytearray()
    async for part in request.stream():
        collected += part
        if len(collected) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
    if endpoint.yaml:
        value = manifest.parse(bytes(collected))
    else:
        try:
            value = orjson.loads(bytes(collected) or b"{}")
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not JSON: {error}") from error
        manifest.check_depth(value)
    return _parsed(endpoint.body, value)


def _query(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if value != ""}


def _parsed(shape: type[BaseModel], value: Any) -> BaseModel:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise InvalidParams(manifest.explained(error)) from error


def _trace(request: Request) -> str:
    """The caller's trace id where it sent a W3C one, else one of ours."""
    parts = request.headers.get("traceparent", "").split("-")
    if len(parts) >= 4 and len(parts[1]) == 32 and all(letter in "0123456789abcdef" for letter in parts[1]):
        return parts[1]
    return new_id(bits=128)
