"""The table of the admin API, and the routes made from it. Agents and runs are mounted beside it by their own part."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.admin_api import access, examining, limits, models, operations, rollouts, servers, shapes
from hub.admin_api.endpoint import PREFIX, Asked, Endpoint
from hub.admin_api.openapi import describe
from hub.admin_api.problem import problem
from hub.admin_api.services import Services
from hub.errors import NotFound
from hub.ids import new_id


async def show_description(services: Services, asked: Asked) -> Any:
    """GET /openapi.json."""
    return describe(ENDPOINTS, services.settings.url)


ENDPOINTS: tuple[Endpoint, ...] = (
    *servers.ENDPOINTS,
    *rollouts.ENDPOINTS,
    *access.ENDPOINTS,
    *limits.ENDPOINTS,
    *models.ENDPOINTS,
    *operations.ENDPOINTS,
    *examining.ENDPOINTS,
    Endpoint(
        "GET",
        "/openapi.json",
        "show_description",
        "This description.",
        "admin:read",
        show_description,
        shapes.Description,
    ),
)
"""Every row of the admin API that the hub itself serves."""


def build(services: Services) -> list[Route]:
    """The routes, to be mounted at the root. `fallback` belongs after those of the parts."""
    return [endpoint.route(services) for endpoint in ENDPOINTS]


def fallback() -> Route:
    """What answers the rest of the prefix: unknown paths and methods, as problems like everything else here."""
    return Route(PREFIX + "/{rest:path}", _unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])


async def _unknown(request: Request) -> Response:
    error = NotFound("There is no such path or method in the admin API.", hint=f"See {PREFIX}/openapi.json.")
    return problem(error, new_id(bits=128))
