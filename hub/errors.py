"""The errors of the hub, and the one table that turns them into wire form.

    HubError
    ├── BadRequest            the caller sent something unusable
    │   ├── InvalidParams     ... in the parameters of a known method, or a name that is not there
    │   └── HeaderMismatch    ... in the mirrored headers (MCP 2026-07-28)
    ├── Unauthenticated       no credential, or one that is not valid
    ├── Forbidden             known caller, too little right
    ├── NotFound              no such thing (for this caller)
    ├── Conflict              the state does not allow it now
    ├── TooLarge              a bound on size or depth was passed
    ├── TooMany               a rate, quota or concurrency bound was passed
    ├── UpstreamError         the server behind the hub failed
    │   ├── UpstreamDown      ... and could not be reached
    │   ├── UpstreamBusy      ... and has as many calls as it may have
    │   ├── UpstreamTimeout   ... and did not answer in time
    │   └── OutcomeUnknown    ... after the request was sent, so it may have had its effect
    └── Unavailable           a part of the hub is not ready

Every error names who must act (`owner`) and what to do next (`hint`). The message is shown to the caller;
the true reason, where it differs, goes to the audit only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Owner = Literal["client", "hub", "server", "administrator"]


NEXT: Mapping[Owner, str] = {
    "client": "Correct the request, then send it again.",
    "hub": "Look for the trace in the audit and the logs of the hub.",
    "server": "Look at the server's log; `entrepot doctor SERVER` names common causes.",
    "administrator": "Ask an administrator of the hub.",
}
"""The next step of an error that has no better one of its own."""


class HubError(Exception):
    """Base of everything that the hub raises on purpose.

    `code` is the stable word for programs, `rpc` the JSON-RPC code, `status` the HTTP status of REST faces.
    """

    code = "internal"
    rpc = -32603
    status = 500
    owner: Owner = "hub"
    effect = ""
    """What became of a call: `none`, it was not sent and may be repeated; `unknown`, it may have had its effect."""
    trace = ""
    """What joins it to the audit and the logs; set where it was recorded."""

    def __init__(self, message: str, *, hint: str = "", reason: str = "", data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reason = reason or message
        self.extra = data or {}

    def envelope(self) -> dict[str, Any]:
        """What the caller is told beside the message: code, owner, next step, trace, and the error's own data."""
        told: dict[str, Any] = {"code": self.code, "owner": self.owner, "hint": self.hint or NEXT[self.owner]}
        if self.effect:
            told["effect"] = self.effect
        if self.trace:
            told["trace"] = self.trace
        return told | self.extra


class BadRequest(HubError):
    """The request is malformed. JSON-RPC -32600, HTTP 400."""

    code, rpc, status, owner = "bad-request", -32600, 400, "client"


class InvalidParams(BadRequest):
    """The parameters do not fit, or name something that does not exist. JSON-RPC -32602."""

    code, rpc = "invalid-params", -32602


class HeaderMismatch(BadRequest):
    """A mirrored header is absent, malformed or differs from the body (MCP 2026-07-28, -32020)."""

    code, rpc = "header-mismatch", -32020


class Unauthenticated(HubError):
    """No valid credential came with the request. HTTP 401."""

    code, rpc, status, owner = "unauthenticated", -32001, 401, "client"


class Forbidden(HubError):
    """The caller is known and may not do this. HTTP 403."""

    code, rpc, status, owner = "forbidden", -32003, 403, "administrator"


class NotFound(HubError):
    """There is no such thing, or none that the caller may know of. HTTP 404."""

    code, rpc, status, owner = "not-found", -32602, 404, "client"


class Conflict(HubError):
    """The present state does not allow the change. HTTP 409."""

    code, rpc, status, owner = "conflict", -32600, 409, "client"


class TooLarge(HubError):
    """A bound on size or depth was passed. HTTP 413."""

    code, rpc, status, owner = "too-large", -32600, 413, "client"


class TooMany(HubError):
    """A rate, quota or concurrency bound was passed. HTTP 429; `retry_after` is in seconds."""

    code, rpc, status, owner = "too-many", -32004, 429, "client"

    def __init__(
        self, message: str, *, retry_after: float = 1.0, hint: str = "", data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint, data={"retryAfter": retry_after} | (data or {}))
        self.retry_after = retry_after


class UpstreamError(HubError):
    """The server behind the hub answered with something unusable. HTTP 502."""

    code, rpc, status, owner = "server-failed", -32603, 502, "server"


class UpstreamDown(UpstreamError):
    """The server could not be reached; the request was not sent. HTTP 503."""

    code, status, effect = "server-down", 503, "none"


class UpstreamBusy(UpstreamError):
    """As many calls as the server may have are under way, and no place became free. Nothing was sent. HTTP 503."""

    code, status, effect = "server-busy", 503, "none"

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint, data={"retryAfter": retry_after})
        self.retry_after = retry_after


class UpstreamTimeout(UpstreamError):
    """The server did not answer within a deadline, which the data names. HTTP 504."""

    code, status, effect = "server-timeout", 504, "unknown"


class OutcomeUnknown(UpstreamError):
    """The connection broke after the request was sent: it may have had its effect. HTTP 502."""

    code, effect = "outcome-unknown", "unknown"


class Unavailable(HubError):
    """A part of the hub is not ready or not installed. HTTP 503."""

    code, status, owner = "unavailable", 503, "administrator"
