"""Models: registered, looked at, forgotten."""

from __future__ import annotations

from typing import Any

from hub.admin_api import shapes
from hub.admin_api.endpoint import Asked, Endpoint, NoBody
from hub.admin_api.services import Services


async def list_models(services: Services, asked: Asked) -> Any:
    """GET /models."""
    return {"models": services.models.list()}


async def put_model(services: Services, asked: Asked) -> Any:
    """PUT /models/{name}."""
    name = asked.path["name"]
    with services.audit.recording("model:change", asked.principal, target=name, trace=asked.trace) as record:
        shown = await services.models.put(name, asked.body.model_dump())
        await services.announce()
        record.outcome = "ok"
    return shown


async def remove_model(services: Services, asked: Asked) -> None:
    """DELETE /models/{name}."""
    name = asked.path["name"]
    with services.audit.recording("model:change", asked.principal, target=name, trace=asked.trace) as record:
        await services.models.remove(name)
        await services.announce()
        record.outcome, record.detail = "ok", "removed"


async def probe_model(services: Services, asked: Asked) -> Any:
    """POST /models/{name}/probe."""
    return await services.models.probe(asked.path["name"])


ENDPOINTS = (
    Endpoint("GET", "/models", "list_models", "All models.", "admin:read", list_models, shapes.ModelList),
    Endpoint(
        "PUT",
        "/models/{name}",
        "put_model",
        "Register or change a model.",
        "admin:write",
        put_model,
        shapes.Model,
        body=shapes.ModelBody,
    ),
    Endpoint(
        "DELETE", "/models/{name}", "remove_model", "Forget a model.", "admin:write", remove_model, NoBody, status=204
    ),
    Endpoint(
        "POST",
        "/models/{name}/probe",
        "probe_model",
        "Look at a model's endpoint now.",
        "admin:write",
        probe_model,
        shapes.Model,
    ),
)
