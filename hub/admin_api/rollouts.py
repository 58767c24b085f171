"""Roll-outs: a version of a server tried out, both sides shown beside each other, promoted or rolled back."""

from __future__ import annotations

from typing import Any

from hub.admin_api import shapes
from hub.admin_api.endpoint import Asked, Endpoint
from hub.admin_api.services import Services
from hub.catalog.canary import CanaryChange, CanarySpec


async def show_rollout(services: Services, asked: Asked) -> Any:
    """GET /servers/{name}/rollout."""
    return services.rollouts.show(asked.path["name"])


async def start_rollout(services: Services, asked: Asked) -> Any:
    """POST /servers/{name}/rollout."""
    return await services.rollouts.start(asked.principal, asked.path["name"], asked.body)


async def change_rollout(services: Services, asked: Asked) -> Any:
    """PATCH /servers/{name}/rollout."""
    return await services.rollouts.change(asked.principal, asked.path["name"], asked.body)


async def promote(services: Services, asked: Asked) -> Any:
    """POST /servers/{name}/rollout/promote."""
    return await services.rollouts.promote(asked.principal, asked.path["name"])


async def roll_back(services: Services, asked: Asked) -> Any:
    """POST /servers/{name}/rollout/rollback."""
    return await services.rollouts.roll_back(asked.principal, asked.path["name"])


PATH = "/servers/{name}/rollout"

ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        "show_rollout",
        "Both versions of a server side by side, and how the last roll-out ended.",
        "admin:read",
        show_rollout,
        shapes.Rollout,
    ),
    Endpoint(
        "POST",
        PATH,
        "start_rollout",
        "Probe a version of a server and give it to some callers.",
        "admin:write",
        start_rollout,
        shapes.Rollout,
        status=201,
        body=CanarySpec,
    ),
    Endpoint(
        "PATCH",
        PATH,
        "change_rollout",
        "Give the version that is tried out to others.",
        "admin:write",
        change_rollout,
        shapes.Rollout,
        body=CanaryChange,
    ),
    Endpoint(
        "POST",
        PATH + "/promote",
        "promote",
        "Put the version that is tried out in the server's place.",
        "admin:write",
        promote,
        shapes.Rollout,
    ),
    Endpoint(
        "POST",
        PATH + "/rollback",
        "roll_back",
        "Give the version that is tried out up.",
        "admin:write",
        roll_back,
        shapes.Rollout,
    ),
)
