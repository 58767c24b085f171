"""The OpenAPI 3.1 description, made from the same table that is served: it cannot say something else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import hub
from hub.admin_api.endpoint import PREFIX, Endpoint, NoBody, NoQuery
from hub.admin_api.problem import TYPE

_PARAMETER = re.compile(r"{(\w+)}")

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An RFC 9457 problem. Further members explain single codes.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable word for programs."},
        "owner": {"type": "string", "enum": ["client", "hub", "server", "administrator"]},
        "hint": {"type": "string"},
        "trace": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "code", "owner", "hint", "trace"],
}


def describe(endpoints: Iterable[Endpoint], url: str) -> dict[str, Any]:
    """The description of these endpoints, served at `url`."""
    table = tuple(endpoints)
    schemas, components = _schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        paths.setdefault(PREFIX + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Entrepot admin API",
            "version": hub.__version__,
            "description": "Servers, keys, models, audit and operations of a hub.",
        },
        "servers": [{"url": url}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components | {"Problem": PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "What went wrong, who must act and what to do.",
                    "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def _schemas(table: Iterable[Endpoint]) -> tuple[dict[tuple[type[BaseModel], str], Any], dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], Any], None] = {}
    for endpoint in table:
        if endpoint.answer is not NoBody:
            wanted[endpoint.answer, "serialization"] = None
        if endpoint.body is not None:
            wanted[endpoint.body, "validation"] = None
    made, definitions = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    return {key: made[key] for key in wanted}, definitions.get("$defs", {})


def _operation(endpoint: Endpoint, schemas: dict[tuple[type[BaseModel], str], Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": endpoint.summary}
    if endpoint.answer is not NoBody:
        answer["content"] = {"application/json": {"schema": schemas[endpoint.answer, "serialization"]}}
    answers = dict.fromkeys(map(str, filter(None, (endpoint.status, endpoint.dry_status))), answer)
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": f"Needs `{endpoint.action}`.",
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint.query)],
        "responses": answers | {"default": {"$ref": "#/components/responses/Problem"}},
    }
    if endpoint.body is not None:
        schema = {"schema": schemas[endpoint.body, "validation"]}
        types = ("application/json", "application/yaml") if endpoint.yaml else ("application/json",)
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(types, schema)}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    if query is NoQuery:
        return []
    properties: dict[str, Any] = query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]
