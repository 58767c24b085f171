"""`/livez`, `/readyz` and `/metrics`: is the process alive, does it serve calls, and its figures.

Liveness looks at nothing. Readiness asks each named check, which must answer from memory. Figures are for
loopback and for callers with `admin` or `admin:read`; behind a proxy on the same machine only for the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.telemetry.metrics import Metrics

Check = Callable[[], str]
"""Empty when all is well, else what is missing."""

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Health:
    """The three faces for whoever supervises the hub."""

    def __init__(self, checks: Mapping[str, Check], metrics: Metrics) -> None:
        self._checks = checks
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """To be mounted at the top."""
        return [
            Route("/livez", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.figures, methods=["GET"]),
        ]

    async def live(self, request: Request) -> Response:
        """200 while the event loop turns."""
        return Response(b"ok\n", media_type="text/plain")

    async def ready(self, request: Request) -> Response:
        """200 when every check is content; else 503 naming those that are not."""
        missing = {name: reason for name, check in self._checks.items() if (reason := check())}
        body = orjson.dumps({"ready": not missing, "missing": missing})
        return Response(body, 503 if missing else 200, media_type="application/json")

    async def figures(self, request: Request) -> Response:
        """Prometheus text format."""
        if not _may_see(request):
            body = orjson.dumps({"code": "forbidden", "owner": "administrator", "hint": "Use a key with admin:read."})
            return Response(body, 403, media_type="application/json")
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _may_see(request: Request) -> bool:
    principal = request.scope.get("principal")
    if principal is not None:
        # Duck-typed on purpose: identity stands above this layer.
        return bool(principal.scopes & {"admin", "admin:read"})
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
