"""Servers, collections, and files that declare them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from hub.admin_api import shapes
from hub.admin_api.endpoint import Asked, Endpoint, NoBody
from hub.admin_api.services import Services
from hub.catalog import importers
from hub.catalog.manifest import CollectionSpec, Declaration, ServerSpec, explained
from hub.errors import InvalidParams
from hub.inference.spec import models_from_apply


async def list_servers(services: Services, asked: Asked) -> Any:
    """GET /servers."""
    return {"servers": services.catalog.list()}


async def add_server(services: Services, asked: Asked) -> Any:
    """POST /servers."""
    return await services.catalog.add(asked.principal, asked.body, dry_run=asked.query.dry_run)


async def show_server(services: Services, asked: Asked) -> Any:
    """GET /servers/{name}."""
    name = asked.path["name"]
    return services.catalog.show(name) | {"vitals": await services.vitals(name)}


async def remove_server(services: Services, asked: Asked) -> None:
    """DELETE /servers/{name}."""
    await services.catalog.remove(asked.principal, asked.path["name"], release_names=asked.query.release_names)


async def refresh_server(services: Services, asked: Asked) -> Any:
    """POST /servers/{name}/refresh."""
    return await services.catalog.refresh(asked.principal, asked.path["name"])


async def list_definitions(services: Services, asked: Asked) -> Any:
    """GET /servers/{name}/definitions."""
    return {"definitions": services.catalog.definitions(asked.path["name"])}


async def list_collections(services: Services, asked: Asked) -> Any:
    """GET /collections."""
    return {"collections": services.catalog.collections()}


async def put_collection(services: Services, asked: Asked) -> Any:
    """PUT /collections/{name}."""
    body: shapes.CollectionBody = asked.body
    name = asked.path["name"]
    if body.name not in (None, name):
        raise InvalidParams("The name in the body is not the one in the path.")
    try:
        spec = CollectionSpec.model_validate(body.model_dump() | {"name": name})
    except ValidationError as error:
        raise InvalidParams(explained(error)) from error
    return await services.catalog.put_collection(asked.principal, spec)


async def remove_collection(services: Services, asked: Asked) -> None:
    """DELETE /collections/{name}."""
    await services.catalog.remove_collection(asked.principal, asked.path["name"])


async def apply(services: Services, asked: Asked) -> Any:
    """POST /apply."""
    return await _apply(services, asked, asked.body)


async def import_client(services: Services, asked: Asked) -> Any:
    """POST /import."""
    return await _apply(services, asked, importers.from_client(asked.body.model_dump()))


async def _apply(services: Services, asked: Asked, declaration: Declaration) -> dict[str, Any]:
    # Everything is checked before anything is written; models are local rows, so servers, which can fail, go first.
    models = models_from_apply(declaration.models)
    planned = services.models.plan(models)
    trials = services.rollouts.plan(declaration.servers)
    outcome = await services.catalog.apply(asked.principal, declaration, dry_run=asked.query.dry_run)
    if not asked.query.dry_run:
        await services.rollouts.apply(asked.principal, declaration.servers)
        for change in planned:
            if change["action"] != "none":
                with services.audit.recording(
                    "model:change", asked.principal, target=change["name"], trace=asked.trace
                ) as record:
                    await services.models.put(change["name"], models[change["name"]])
                    record.outcome = "ok"
        if any(change["action"] != "none" for change in planned):
            await services.announce()
    return {"changes": outcome["changes"] + trials + planned, "applied": outcome["applied"]}


ENDPOINTS = (
    Endpoint("GET", "/servers", "list_servers", "All servers.", "admin:read", list_servers, shapes.Servers),
    Endpoint(
        "POST",
        "/servers",
        "add_server",
        "Probe and register a server, or only show what it would expose.",
        "admin:write",
        add_server,
        shapes.Server,
        status=201,
        dry_status=200,
        body=ServerSpec,
        query=shapes.DryRun,
    ),
    Endpoint("GET", "/servers/{name}", "show_server", "One server.", "admin:read", show_server, shapes.Server),
    Endpoint(
        "DELETE",
        "/servers/{name}",
        "remove_server",
        "Forget a server.",
        "admin:write",
        remove_server,
        NoBody,
        status=204,
        query=shapes.Removal,
    ),
    Endpoint(
        "POST",
        "/servers/{name}/refresh",
        "refresh_server",
        "Look at a server again.",
        "admin:write",
        refresh_server,
        shapes.Server,
    ),
    Endpoint(
        "GET",
        "/servers/{name}/definitions",
        "list_definitions",
        "What a server offers, as it said it.",
        "admin:read",
        list_definitions,
        shapes.Definitions,
    ),
    Endpoint(
        "GET",
        "/collections",
        "list_collections",
        "All collections.",
        "admin:read",
        list_collections,
        shapes.Collections,
    ),
    Endpoint(
        "PUT",
        "/collections/{name}",
        "put_collection",
        "Make or change a collection.",
        "admin:write",
        put_collection,
        shapes.Collection,
        body=shapes.CollectionBody,
    ),
    Endpoint(
        "DELETE",
        "/collections/{name}",
        "remove_collection",
        "Forget a collection.",
        "admin:write",
        remove_collection,
        NoBody,
        status=204,
    ),
    Endpoint(
        "POST",
        "/apply",
        "apply",
        "Bring servers, collections and models into a declared form.",
        "admin:write",
        apply,
        shapes.Applied,
        body=Declaration,
        query=shapes.DryRun,
        yaml=True,
    ),
    Endpoint(
        "POST",
        "/import",
        "import_client",
        "Take over the servers of an MCP client's configuration.",
        "admin:write",
        import_client,
        shapes.Applied,
        body=shapes.ClientConfig,
        query=shapes.DryRun,
    ),
)
