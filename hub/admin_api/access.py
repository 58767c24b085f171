"""Keys and sign-in links. Nobody gives what they do not hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from hub.admin_api import shapes
from hub.admin_api.endpoint import Asked, Endpoint, NoBody
from hub.admin_api.services import Services
from hub.errors import Forbidden
from hub.identity.models import ApiKey
from hub.identity.principal import LOCAL_ADMINISTRATOR, Principal
from hub.identity.scopes import DEFAULT_SCOPES, beyond, checked
from hub.identity.sessions import LINK_SECONDS


async def list_tokens(services: Services, asked: Asked) -> Any:
    """GET /tokens."""
    return {"tokens": [_shown(row) for row in await services.keys.list()]}


async def create_token(services: Services, asked: Asked) -> Any:
    """POST /tokens."""
    body: shapes.TokenBody = asked.body
    with services.audit.recording("key:create", asked.principal, trace=asked.trace) as record:
        scopes = DEFAULT_SCOPES if body.scopes is None else checked(body.scopes)
        _refuse_more(asked.principal, scopes)
        expires = None
        if body.expires_seconds is not None:
            expires = datetime.fromtimestamp(services.clock(), UTC) + timedelta(seconds=body.expires_seconds)
        row, token = await services.keys.create(
            body.name, scopes, expires=expires, kind=body.kind, on_behalf_of=body.on_behalf_of, teams=body.teams
        )
        await services.announce()
        record.target = row.id
        record.detail = f"{body.kind} {' '.join(sorted(scopes))}"
        record.outcome = "ok"
    return _shown(row) | {"token": token}


async def revoke_token(services: Services, asked: Asked) -> None:
    """DELETE /tokens/{id}."""
    with services.audit.recording("key:revoke", asked.principal, target=asked.path["id"], trace=asked.trace) as record:
        await services.keys.revoke(asked.path["id"])
        await services.announce()
        record.outcome = "ok"


async def create_link(services: Services, asked: Asked) -> Any:
    """POST /sign-in-links."""
    body: shapes.LinkBody = asked.body
    with services.audit.recording("link:create", asked.principal, target=body.subject, trace=asked.trace) as record:
        # Whoever signs in may do all that an administrator may.
        _refuse_more(asked.principal, LOCAL_ADMINISTRATOR.scopes)
        token = await services.sessions.create_link(body.subject)
        record.outcome = "ok"
    expires = datetime.fromtimestamp(services.clock() + LINK_SECONDS, UTC)
    return {"url": f"{services.settings.url}/sign-in?token={quote(token)}", "expires": expires.isoformat()}


def _refuse_more(principal: Principal, scopes: frozenset[str]) -> None:
    if missing := beyond(scopes, principal):
        raise Forbidden(
            f"You cannot give away what you do not hold: {', '.join(missing)}.",
            hint="Name narrower scopes, or use a key that holds these.",
            data={"scopes": missing},
        )


def _shown(row: ApiKey) -> dict[str, Any]:
    return row.model_dump(mode="json", exclude={"digest"})


ENDPOINTS = (
    Endpoint(
        "GET", "/tokens", "list_tokens", "All keys, without their secrets.", "admin:read", list_tokens, shapes.Tokens
    ),
    Endpoint(
        "POST",
        "/tokens",
        "create_token",
        "Make a key; its secret is shown this once.",
        "admin:write",
        create_token,
        shapes.NewToken,
        status=201,
        body=shapes.TokenBody,
    ),
    Endpoint(
        "DELETE", "/tokens/{id}", "revoke_token", "Revoke a key.", "admin:write", revoke_token, NoBody, status=204
    ),
    Endpoint(
        "POST",
        "/sign-in-links",
        "create_link",
        "Make a link that signs its holder in, once, within 15 minutes.",
        "admin:write",
        create_link,
        shapes.Link,
        status=201,
        body=shapes.LinkBody,
    ),
)
