"""Limits: made, changed, forgotten, and how much of each is used."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from hub.admin_api import shapes
from hub.admin_api.endpoint import Asked, Endpoint, NoBody
from hub.admin_api.services import Services
from hub.catalog.limits import LimitSpec
from hub.catalog.manifest import explained
from hub.errors import InvalidParams
from hub.limits.leases import LinkDown


async def list_limits(services: Services, asked: Asked) -> Any:
    """GET /limits."""
    found = services.catalog.limits()
    return {"limits": [limit | {"usage": await _usage(services, limit["name"])} for limit in found]}


async def put_limit(services: Services, asked: Asked) -> Any:
    """PUT /limits/{name}."""
    try:
        spec = LimitSpec.model_validate(asked.body.model_dump(exclude_unset=True) | {"name": asked.path["name"]})
    except ValidationError as error:
        raise InvalidParams(explained(error)) from error
    return await services.catalog.put_limit(asked.principal, spec) | {"usage": await _usage(services, spec.name)}


async def remove_limit(services: Services, asked: Asked) -> None:
    """DELETE /limits/{name}."""
    await services.catalog.remove_limit(asked.principal, asked.path["name"])


async def _usage(services: Services, name: str) -> list[dict[str, Any]]:
    """Whose counters are used most; nothing while the coordinator is being started again."""
    try:
        used = await services.limits.usage(name)
    except LinkDown:
        return []
    return [{"whose": one.whose, "kind": one.kind, "used": round(one.used, 3)} for one in used]


ENDPOINTS = (
    Endpoint(
        "GET",
        "/limits",
        "list_limits",
        "All limits, with those who used most of them.",
        "admin:read",
        list_limits,
        shapes.Limits,
    ),
    Endpoint(
        "PUT",
        "/limits/{name}",
        "put_limit",
        "Make or change a limit; what was counted stays counted.",
        "admin:write",
        put_limit,
        shapes.Limit,
        body=shapes.LimitBody,
    ),
    Endpoint(
        "DELETE", "/limits/{name}", "remove_limit", "Forget a limit.", "admin:write", remove_limit, NoBody, status=204
    ),
)
