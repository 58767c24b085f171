"""Errors of the admin API as RFC 9457 problems: what happened, who must act, what to do, and the trace to quote."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from hub.errors import HubError, TooMany, Unauthenticated

TYPE = "application/problem+json"


def problem(error: HubError, trace: str) -> Response:
    """The answer to a request that failed with `error`."""
    headers = {"cache-control": "no-store"}
    if isinstance(error, TooMany):
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = 'Bearer realm="entrepot"'
    return Response(orjson.dumps(described(error, trace)), error.status, headers, TYPE)


def described(error: HubError, trace: str) -> dict[str, Any]:
    """The problem's members. The error's own data cannot overwrite the standard ones."""
    told = error.envelope()
    hint = told.get("hint", "")
    standard = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "owner": error.owner,
        "hint": hint,
        "trace": trace,
    }
    return told | standard
