"""The worker's own REST face on its socket: changes to agents and runs, which the hub relays after admission.

Who asks and whether they may was decided by the hub; reading goes past this face, straight from the tables.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents.manifest import Manifest, parse
from agents.runs.records import Records, shown_agent, shown_run
from agents.runs.service import RunService
from agents.wire.face import read_body
from agents.wire.hub import HubAdmin
from agents.wire.shapes import mapping
from hub.errors import BadRequest, HubError

log = logging.getLogger("agents.rest")


class Rest:
    """Handlers of the worker's REST face."""

    def __init__(self, records: Records, service: RunService, admin: HubAdmin) -> None:
        self._records = records
        self._service = service
        self._admin = admin

    def app(self) -> Starlette:
        """The routes as an ASGI app."""
        return Starlette(
            routes=[
                Route("/readyz", self._ready, methods=["GET"]),
                Route("/agents/{name}", self._put, methods=["PUT"]),
                Route("/agents/{name}", self._remove, methods=["DELETE"]),
                Route("/runs/{run}/end", self._end, methods=["GET"]),
                Route("/runs/{run}/cancel", self._cancel, methods=["POST"]),
            ],
            exception_handlers={HubError: _refuse},
        )

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": True})

    async def _put(self, request: Request) -> Response:
        body = await read_body(request.receive)
        manifest, enabled = read_agent(body)
        name: str = request.path_params["name"]
        if manifest.name != name:
            raise BadRequest(f"The manifest names {manifest.name!r}, the path {name!r}.")
        record = manifest.model_dump(mode="json")
        if await asyncio.to_thread(lambda: self._records.put_agent(name, record, enabled=enabled)):
            await self._tell_hub()
        agent = await asyncio.to_thread(self._records.agent, name)
        return JSONResponse(shown_agent(agent, None))

    async def _remove(self, request: Request) -> Response:
        await asyncio.to_thread(self._records.remove_agent, request.path_params["name"])
        await self._tell_hub()
        return Response(status_code=204)

    async def _cancel(self, request: Request) -> Response:
        run = await self._service.cancel(request.path_params["run"])
        return JSONResponse(shown_run(run), status_code=202)

    async def _end(self, request: Request) -> Response:
        """Answers when the run has ended."""
        run = await self._service.run(request.path_params["run"])
        return JSONResponse(shown_run(await self._service.wait(run, lambda _: None)))

    async def _tell_hub(self) -> None:
        try:
            await self._admin.agents_changed()
        except HubError as error:
            # The hub lists the change at its next look; the change itself stands.
            log.warning("the hub could not be told of a changed agent: %s", error.message)


def read_agent(body: bytes) -> tuple[Manifest, bool]:
    """A manifest, bare or as `{"manifest": ..., "enabled": ...}`. Raises `BadRequest`."""
    try:
        read: dict[str, Any] = mapping(orjson.loads(body))
    except orjson.JSONDecodeError:
        return parse(body), True
    if manifest := mapping(read.get("manifest")):
        return parse(manifest), bool(read.get("enabled", True))
    return parse(read), True


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, HubError):
        raise error
    told = {"title": error.message, "status": error.status, "detail": error.message} | error.envelope()
    return JSONResponse(told, status_code=error.status, media_type="application/problem+json")
