"""Audit, logs, replicas, status and doctor: what whoever runs the hub looks at."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread

import hub
from hub.admin_api import checks, logs, shapes
from hub.admin_api.endpoint import Asked, Endpoint
from hub.admin_api.services import Services
from hub.audit import chain, query


async def search_audit(services: Services, asked: Asked) -> Any:
    """GET /audit."""
    wanted: shapes.AuditQuery = asked.query
    filters = query.Filters(
        wanted.subject,
        wanted.event,
        wanted.server,
        wanted.target,
        wanted.outcome,
        wanted.trace,
        wanted.after,
        wanted.before,
    )
    records = await query.search(services.database, filters, wanted.limit, wanted.cursor)
    following = query.cursor(records[-1]) if len(records) == wanted.limit else None
    return {"records": records, "next": following}


async def verify_audit(services: Services, asked: Asked) -> Any:
    """GET /audit/verify."""
    report = await anyio.to_thread.run_sync(chain.verify, services.settings.audit_dir)
    told: dict[str, Any] = {"ok": report.ok, "segments": report.segments, "records": report.records}
    if report.faults:
        told["fault"] = "; ".join(map(str, report.faults[:5]))
    return told


async def read_logs(services: Services, asked: Asked) -> Any:
    """GET /logs."""
    wanted: shapes.LogQuery = asked.query
    lines = await anyio.to_thread.run_sync(
        logs.tail, services.settings.logs_dir, wanted.source, wanted.query, wanted.limit
    )
    return {"lines": lines}


async def list_replicas(services: Services, asked: Asked) -> Any:
    """GET /replicas."""
    return {"replicas": await services.runner.children()}


async def set_replicas(services: Services, asked: Asked) -> Any:
    """PUT /replicas/{child}."""
    child = asked.path["child"]
    with services.audit.recording("replicas:change", asked.principal, target=child, trace=asked.trace) as record:
        answer = await services.runner.scale(child, asked.body.replicas)
        record.outcome, record.detail = "ok", f"{asked.body.replicas}"
    return {"name": child} | answer


async def status(services: Services, asked: Asked) -> Any:
    """GET /status."""
    servers = services.catalog.list()
    states = [server["state"] for server in servers]
    return {
        "version": hub.__version__,
        "url": services.settings.url,
        "uptime": round(services.clock() - services.started, 3),
        "workers": services.settings.workers,
        "runner": await checks.socket_state(services.settings.runner_socket),
        # A bare hub wants no agents: nothing is down.
        "agents": "off" if services.settings.bare else await checks.socket_state(services.settings.agents_socket),
        "servers": {state: states.count(state) for state in ("ready", "degraded", "down", "new")},
        "revision": services.catalog.revision,
    }


async def doctor(services: Services, asked: Asked) -> Any:
    """GET /doctor."""
    return {"checks": await checks.examine(services)}


ENDPOINTS = (
    Endpoint(
        "GET",
        "/audit",
        "search_audit",
        "Records of the audit, newest first.",
        "admin:read",
        search_audit,
        shapes.Records,
        query=shapes.AuditQuery,
    ),
    Endpoint(
        "GET",
        "/audit/verify",
        "verify_audit",
        "Check the audit's hash chain.",
        "admin:read",
        verify_audit,
        shapes.Verified,
    ),
    Endpoint(
        "GET", "/logs", "read_logs", "The last log lines.", "admin:read", read_logs, shapes.Lines, query=shapes.LogQuery
    ),
    Endpoint("GET", "/replicas", "list_replicas", "All child processes.", "admin:read", list_replicas, shapes.Replicas),
    Endpoint(
        "PUT",
        "/replicas/{child}",
        "set_replicas",
        "Set how many processes a child has.",
        "admin:write",
        set_replicas,
        shapes.Replica,
        body=shapes.ReplicasBody,
    ),
    Endpoint("GET", "/status", "status", "The hub in one look.", "admin:read", status, shapes.Status),
    Endpoint("GET", "/doctor", "doctor", "What is wrong, and what to do.", "admin:read", doctor, shapes.Checks),
)
