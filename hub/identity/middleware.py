"""Who is calling: credentials in, `scope["principal"]` set, or the request is answered here.

Order: Host, Origin, then exactly one credential. A bearer token that was sent and is not valid ends in 401;
it never falls back to a cookie or to `--open`. Paths are read from the ASGI scope, which is also what routes
them, never from a URL rebuilt out of headers. A scope that carries a `Principal` object already was made in
this process (`hub.inprocess`, the admin socket); no header can put one there.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import quote

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.audit.recorder import Audit
from hub.audit.refusals import Refusals
from hub.errors import BadRequest, Forbidden, HubError, Unauthenticated
from hub.identity.api_keys import ApiKeys
from hub.identity.hosts import Hosts, is_loopback
from hub.identity.principal import LOCAL_ADMINISTRATOR, OPEN_CALLER, Principal
from hub.identity.sessions import Sessions
from hub.ids import new_id
from hub.settings import Settings
from hub.telemetry import tracing
from hub.telemetry.metrics import Metrics

TOKEN_FACES = ("/mcp", "/v1")
"""Faces for programs: a cookie never counts there, so no web page can act through a signed-in browser."""

API = "/api"
PUBLIC = ("/livez", "/readyz", "/metrics", "/sign-in", "/static", "/.well-known", "/favicon.ico")
"""Answered without a credential (`/metrics` looks again itself)."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
ONCE = (b"host", b"authorization", b"origin")
LOOKED_AT = frozenset({*ONCE, *FORWARDED, b"cookie", b"x-csrf-token", b"accept", b"sec-fetch-site", b"traceparent"})
LONGEST_COOKIES = 8192
LONGEST_WAY_BACK = 1000


class MisdirectedRequest(HubError):
    """The request is for a host that this hub is not (RFC 9110, 15.5.20)."""

    code, status, owner = "misdirected", 421, "client"


class LocalAdministrator:
    """Around the app on the admin socket: whoever may open it is the local administrator."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["principal"] = LOCAL_ADMINISTRATOR
        await self._app(scope, receive, send)


class Authentication:
    """Around the app on the network. `scope["ui_session"]` holds the cookie value where that was the credential."""

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys,
        sessions: Sessions,
        settings: Settings,
        metrics: Metrics | None = None,
        audit: Audit | None = None,
    ) -> None:
        """Refusals are counted in `metrics` and recorded in `audit`.

        Raises `HubError` for `--open` on an address that others can reach.
        """
        if settings.open and not is_loopback(settings.host):
            raise HubError(
                f"--open lets everybody in and is refused on {settings.host}.",
                hint="Listen on 127.0.0.1, or make keys with: entrepot tokens create NAME.",
            )
        self._app = app
        self._keys = keys
        self._sessions = sessions
        self._settings = settings
        self._metrics = metrics
        self._refusals = Refusals(audit, "access:refused") if audit else None
        self._hosts = Hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or isinstance(scope.get("principal"), Principal):
            await self._app(scope, receive, send)
            return
        scope.pop("principal", None)
        memo: dict[Any, Any] = scope.get("memo", {})
        # The same head as before on this connection: only whether the key still holds is asked again.
        known = self._keys.holder(memo[Authentication]) if Authentication in memo else None
        if known is not None:
            scope["principal"] = known
            await self._app(scope, receive, send)
            return
        headers = _Headers(scope)
        try:
            self._check_host(scope, headers)
            # Most calls carry a token, which needs no waiting for.
            token = headers.authorization
            principal = await self._principal(scope, headers) if token is None else self._bearer(token, memo)
        except HubError as error:
            if self._metrics:
                self._metrics.refuse(error.code)
            await self._refuse(scope, send, error, headers)
            return
        if principal is not None:
            scope["principal"] = principal
        await self._app(scope, receive, send)

    def _check_host(self, scope: Scope, headers: _Headers) -> None:
        if headers.repeated:
            raise BadRequest(f"The header {headers.repeated} came twice.")
        server = scope.get("server")
        if not self._hosts.host_allowed(headers.host, server):
            raise MisdirectedRequest(
                "This hub does not answer to that host name.",
                hint="Add the name to ENTREPOT_ALLOWED_HOSTS, or set ENTREPOT_PUBLIC_URL.",
            )
        origin = headers.text(b"origin")
        if origin and not self._hosts.origin_allowed(origin, headers.host, server):
            raise Forbidden(
                "Pages of that origin may not use this hub.", hint="Add the origin to ENTREPOT_ALLOWED_ORIGINS."
            )

    async def _principal(self, scope: Scope, headers: _Headers) -> Principal | None:
        """Who calls without a token; None only where the path needs nobody. Raises `Unauthenticated`, `Forbidden`."""
        path: str = scope["path"]
        if headers.cookie and not _under(path, *TOKEN_FACES):
            principal = await self._signed_in(scope, headers)
            if principal is not None:
                return principal
        if self._settings.open and _is_local(scope, headers):
            return OPEN_CALLER
        if _under(path, *PUBLIC):
            return None
        raise Unauthenticated(
            "This needs a key.", hint="Send Authorization: Bearer KEY; entrepot tokens create makes one."
        )

    def _bearer(self, authorization: bytes, memo: dict[Any, Any]) -> Principal:
        scheme, _, token = authorization.strip().partition(b" ")
        token = token.strip()
        principal = self._keys.authenticate(token) if scheme.lower() == b"bearer" and token else None
        if principal is None:
            raise Unauthenticated("The key is not valid, was revoked or has expired.", hint="Make a new key.")
        memo[Authentication] = sha256(token).digest()
        return principal

    async def _signed_in(self, scope: Scope, headers: _Headers) -> Principal | None:
        value = _cookie_value(headers.cookie, self._sessions.cookie.name)
        principal = await self._sessions.principal(value) if value else None
        if principal is None:
            return None
        # Forms carry the token in a field, which their view reads and checks; the API is only ever called by script.
        if (
            _under(scope["path"], API)
            and scope.get("method", "GET") not in SAFE_METHODS
            and not self._sessions.check_csrf(value, headers.text(b"x-csrf-token"))
        ):
            raise Forbidden("The request did not come from a page of ours.", hint="Reload the page and try again.")
        scope["ui_session"] = value
        return principal

    async def _refuse(self, scope: Scope, send: Send, error: HubError, headers: _Headers) -> None:
        to_sign_in = (
            isinstance(error, Unauthenticated) and headers.authorization is None and _wants_page(scope, headers)
        )
        trace = tracing.parse(headers.text(b"traceparent"))
        error.trace = trace.id if trace else new_id(bits=128)
        # A person who is shown the way in was not refused anything.
        if self._refusals and not to_sign_in:
            self._refusals.record(error, target=scope["path"], origin=_peer(scope), trace=error.trace)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        status, sent = error.status, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        body = orjson.dumps({"message": error.message} | error.envelope())
        if isinstance(error, Unauthenticated):
            sent.append((b"www-authenticate", self._challenge(scope["path"], headers)))
            if to_sign_in:
                status, body = 303, b""
                sent.append((b"location", _sign_in_and_back(scope)))
        sent.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    def _challenge(self, path: str, headers: _Headers) -> bytes:
        # RFC 9728, section 5.1; the metadata of /mcp/... lies under the well-known prefix of that path.
        suffix = path if _under(path, *TOKEN_FACES) and _header_safe(path) else ""
        where = f'resource_metadata="{self._settings.url}/.well-known/oauth-protected-resource{suffix}"'
        fault = 'error="invalid_token", ' if headers.authorization is not None else ""
        return f"Bearer {fault}{where}".encode("ascii", "replace")


class _Headers:
    """The few headers that identity looks at: picked in one pass, read when asked for."""

    __slots__ = ("_values", "authorization", "cookie", "host", "repeated")

    def __init__(self, scope: Scope) -> None:
        found: list[tuple[bytes, bytes]] = [pair for pair in scope["headers"] if pair[0] in LOOKED_AT]
        values = self._values = dict(found)
        self.repeated = "" if len(values) == len(found) else _repeated(found)
        self.host = values.get(b"host", b"").decode("latin-1")
        self.authorization: bytes | None = values.get(b"authorization")
        self.cookie = ""
        if b"cookie" in values:
            # HTTP/2 front ends may split cookies over several headers (RFC 9113, 8.2.3).
            self.cookie = "; ".join(value.decode("latin-1") for name, value in found if name == b"cookie")

    def text(self, name: bytes) -> str:
        """One of them; empty when it was not sent."""
        return self._values.get(name, b"").decode("latin-1")

    @property
    def forwarded(self) -> bool:
        """Whether some proxy says that it stands between."""
        return any(name in self._values for name in FORWARDED)


def _repeated(found: list[tuple[bytes, bytes]]) -> str:
    """A header that came twice and of which there can be one."""
    names = [name for name, _ in found]
    return next((name.decode() for name in ONCE if names.count(name) > 1), "")


def _under(path: str, *faces: str) -> bool:
    return any(path == face or path.startswith(f"{face}/") for face in faces)


def _is_local(scope: Scope, headers: _Headers) -> bool:
    """Whether somebody on this machine calls for himself: no proxy's word, no other site's page."""
    client = scope.get("client")
    if not client or headers.forwarded or headers.text(b"sec-fetch-site") == "cross-site":
        return False
    return is_loopback(client[0])


def _peer(scope: Scope) -> str:
    """The address at the other end of the connection, which may be a proxy's; nothing for a local socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _wants_page(scope: Scope, headers: _Headers) -> bool:
    if scope.get("method") != "GET" or _under(scope["path"], *TOKEN_FACES, API):
        return False
    return "text/html" in headers.text(b"accept")


def _sign_in_and_back(scope: Scope) -> bytes:
    # The path as it is routed, quoted as one value: it always starts with one slash, so it leads nowhere else.
    path: str = scope["path"]
    query: bytes = scope.get("query_string", b"")
    back = path + (f"?{query.decode('latin-1')}" if query else "")
    if path == "/" or path.startswith(("//", "/\\")) or len(back) > LONGEST_WAY_BACK:
        return b"/sign-in"
    return b"/sign-in?next=" + quote(back, safe="/").encode()


def _cookie_value(header: str, name: str) -> str:
    # Not `http.cookies`: one malformed cookie of another program on this host would hide ours from it.
    if len(header) > LONGEST_COOKIES:
        return ""
    for pair in header.split(";"):
        found, _, value = pair.strip().partition("=")
        if found == name:
            return value
    return ""


def _header_safe(path: str) -> bool:
    return path.isascii() and path.isprintable() and '"' not in path and "\\" not in path and len(path) < 300
