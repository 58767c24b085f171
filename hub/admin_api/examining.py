"""`doctor SERVER`: the examination of one server, registered or only declared, told whole or step by step."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio.to_thread
import orjson
from starlette.responses import StreamingResponse

from hub.admin_api import logs, shapes
from hub.admin_api.endpoint import Asked, Endpoint
from hub.admin_api.problem import described
from hub.admin_api.services import Services
from hub.catalog.manifest import ServerSpec
from hub.doctor.service import Begun, Doctor, Told
from hub.errors import HubError

log = logging.getLogger(__name__)

LOG_LINES = 40


async def examine_server(services: Services, asked: Asked) -> Any:
    """POST /servers/{name}/doctor."""
    name = asked.path["name"]
    return await _answer(services, asked, name, _doctor(services).registered(name, asked.query.idle))


async def examine_declared(services: Services, asked: Asked) -> Any:
    """POST /doctor."""
    spec: ServerSpec = asked.body
    return await _answer(services, asked, spec.name, _doctor(services).declared(spec, asked.query.idle))


def _doctor(services: Services) -> Doctor:
    async def logged(child: str, since: str) -> list[str]:
        folder = services.settings.logs_dir
        lines = await anyio.to_thread.run_sync(logs.tail, folder, f"child-{child}", "", LOG_LINES)
        return [line["message"] for line in lines if line["at"] >= since]

    return Doctor(services.catalog, services.runner, logged)


async def _answer(services: Services, asked: Asked, name: str, told: AsyncGenerator[Told]) -> Any:
    rows = _recorded(services, asked, name, told)
    if not asked.query.stream:
        async with aclosing(rows):
            return {"checks": [row async for row in rows if "begun" not in row]}
    # What is refused at once is refused as everything else is; from then on errors are lines.
    first = await anext(rows)
    return StreamingResponse(_lines(rows, first, asked.trace), headers=_STREAMED, media_type="application/jsonl")


_STREAMED = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def _recorded(
    services: Services, asked: Asked, name: str, told: AsyncGenerator[Told]
) -> AsyncGenerator[dict[str, Any]]:
    with services.audit.recording("server:examine", asked.principal, server=name, trace=asked.trace) as record:
        codes: list[str] = []
        async with aclosing(told):
            async for one in told:
                row = one.row()
                if not isinstance(one, Begun) and "owner" in row:
                    codes.append(row["name"])
                yield row
        record.outcome, record.detail = "ok", ", ".join(codes)[:500] or "nothing found"


async def _lines(rows: AsyncGenerator[dict[str, Any]], first: dict[str, Any], trace: str) -> AsyncGenerator[bytes]:
    async with aclosing(rows):
        yield _line(first)
        try:
            async for row in rows:
                yield _line(row)
        except HubError as error:
            yield _line({"error": described(error, trace)})
        except Exception:
            log.exception("an examination failed (%s)", trace)
            hint = f"Look for {trace} in the logs."
            yield _line({"error": described(HubError("Something went wrong inside the hub.", hint=hint), trace)})


def _line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/servers/{name}/doctor",
        "examine_server",
        "What is wrong with a server, by name, and what to do.",
        "admin:write",
        examine_server,
        shapes.Checks,
        query=shapes.ExamineQuery,
    ),
    Endpoint(
        "POST",
        "/doctor",
        "examine_declared",
        "The same for a server that is not registered.",
        "admin:write",
        examine_declared,
        shapes.Checks,
        body=ServerSpec,
        query=shapes.ExamineQuery,
    ),
)
