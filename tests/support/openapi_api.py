"""A small HTTP API with an OpenAPI 3.0 description full of edges, on a loopback port of its own."""

from __future__ import annotations

import copy
import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route


def _ok(schema: Any) -> dict[str, Any]:
    return {"200": {"description": "ok", "content": {"application/json": {"schema": schema}}}}


def _in(place: str, name: str, schema: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, **more}


TEXT = {"type": "string"}
DESCRIPTION: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "宠物店 Pets", "version": "1", "description": "A shop of pets. 一家宠物店。"},
    "servers": [{"url": "/v1"}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "summary": "列出宠物 List pets",
                "parameters": [
                    _in("query", "tags", {"type": "array", "items": TEXT}),
                    _in("query", "ids", {"type": "array", "items": {"type": "integer"}}, explode=False),
                    _in("query", "filter", {"type": "object"}, style="deepObject"),
                    {"$ref": "#/components/parameters/Limit"},
                ],
                "responses": _ok({"type": "array", "items": {"$ref": "#/components/schemas/Pet"}}),
            },
            "post": {
                "operationId": "createPet",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
                "responses": _ok({"$ref": "#/components/schemas/Pet"}),
            },
        },
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {"operationId": "getPet", "responses": _ok({"$ref": "#/components/schemas/Pet"})},
            "delete": {"operationId": "deletePet", "responses": {"204": {"description": "gone"}}},
            "put": {"responses": {"200": {"description": "ok"}}},
        },
        "/pets/{id}/secret": {
            "get": {
                "operationId": "secretOfPet",
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/echo/{word}.txt": {
            "get": {
                "operationId": "查询/回声 echo!",
                "parameters": [
                    _in("path", "word", TEXT, required=True),
                    _in("query", "word", TEXT),
                    _in("query", "城市", TEXT),
                    _in("header", "X-Note", TEXT),
                    _in("header", "Authorization", TEXT),
                    _in("header", "Host", TEXT),
                    _in("header", "X-Key", TEXT),
                    _in("cookie", "flavour", TEXT),
                ],
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/status/{code}": {
            "get": {
                "operationId": "status",
                "parameters": [_in("path", "code", {"type": "integer"}, required=True)],
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/away": {"get": {"operationId": "away", "responses": {"200": {"description": "ok"}}}},
        "/large": {"get": {"operationId": "large", "responses": {"200": {"description": "ok"}}}},
        "/drifted": {"get": {"operationId": "drifted", "responses": _ok({"type": "object"})}},
        "/form": {
            "post": {
                "operationId": "form",
                "requestBody": {
                    "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
                },
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/upload": {
            "post": {
                "operationId": "upload",
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {"type": "object"}}}},
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/elsewhere": {
            "get": {
                "operationId": "elsewhere",
                "servers": [{"url": "http://169.254.169.254/latest"}],
                "responses": {"200": {"description": "ok"}},
            }
        },
        "/remote": {
            "get": {
                "operationId": "remote",
                "parameters": [_in("query", "q", {"$ref": "http://evil.test/schema.json"})],
                "responses": {"200": {"description": "ok"}},
            }
        },
    },
    "components": {
        "parameters": {
            "Id": _in("path", "id", TEXT, required=True, description="编号 the pet's id"),
            "Limit": _in("query", "limit", {"type": "integer", "minimum": 0, "exclusiveMinimum": True}),
        },
        "schemas": {
            "Animal": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string", "minLength": 1}},
            },
            "Pet": {
                "allOf": [
                    {"$ref": "#/components/schemas/Animal"},
                    {
                        "type": "object",
                        "properties": {
                            "note": {"type": "string", "nullable": True, "example": "likes 鱼"},
                            "kind": {"type": "string", "nullable": True, "enum": ["cat", "dog"]},
                            "parent": {"$ref": "#/components/schemas/Pet"},
                        },
                    },
                ]
            },
        },
    },
}


@dataclass
class Api:
    """The API while it runs: where it is and what it was asked."""

    port: int
    description: bytes
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def spec(self) -> str:
        """URL of the description."""
        return f"http://127.0.0.1:{self.port}/openapi.json"

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/openapi.json", self._describe),
                Route("/moved.json", self._away),
                Route("/{rest:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"]),
            ]
        )

    async def _describe(self, request: Request) -> Response:
        self._note(request, b"")
        return Response(self.description, media_type="application/json")

    async def _away(self, _: Request) -> Response:
        return RedirectResponse(f"http://localhost:{self.port}/v1/landed")

    def _note(self, request: Request, body: bytes) -> dict[str, Any]:
        raw = request.scope["raw_path"].decode("ascii")
        query = request.scope["query_string"].decode("ascii")
        entry = {
            "method": request.method,
            "raw": raw,
            "query": query,
            "values": request.query_params.multi_items(),
            "headers": [(key.decode(), value.decode()) for key, value in request.scope["headers"]],
            "body": body.decode("utf-8", "replace"),
        }
        self.seen.append(entry)
        return entry

    async def _answer(self, request: Request) -> Response:
        entry = self._note(request, await request.body())
        path = entry["raw"].removeprefix("/v1")
        if path.startswith("/status/"):
            return JSONResponse({"said": "说明"}, int(path.rsplit("/", 1)[-1]))
        if path == "/away":
            return await self._away(request)
        if path == "/large":
            return PlainTextResponse("x" * (2**20 + 10))
        if path == "/drifted":
            return JSONResponse([1])
        if entry["method"] == "DELETE":
            return Response(status_code=204)
        if path == "/pets" and entry["method"] == "GET":
            return JSONResponse([{"id": 1, "name": "花花"}])
        if path == "/pets":
            return JSONResponse({"id": 7, "kind": None, **json.loads(entry["body"])})
        if path.startswith("/pets/"):
            return JSONResponse({"id": None, "name": "花花", "note": None, "extra": [1], "at": entry["raw"]})
        return JSONResponse(entry)


@contextmanager
def serving(description: dict[str, Any] | bytes | None = None) -> Generator[Api]:
    """The API on a loopback port, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        given = copy.deepcopy(DESCRIPTION) if description is None else description
        body = given if isinstance(given, bytes) else json.dumps(given).encode()
        api = Api(listener.getsockname()[1], body)
        server = uvicorn.Server(uvicorn.Config(api.app(), log_config=None, lifespan="off", http="h11"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.should_exit = True
            thread.join(10)
