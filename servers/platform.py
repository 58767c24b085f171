"""A small client of the platform's admin API: address and token from the environment, every failure a `Fault`.

The token is read from its file at each request, because the platform writes a new one at each start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from servers.kit import Environment, Fault, Variable

VARIABLES = (
    Variable("ENTREPOT_URL", "address of the hub, such as http://127.0.0.1:4180"),
    Variable("ENTREPOT_SOCKET", "unix socket of the hub, used instead of ENTREPOT_URL's address when set"),
    Variable("ENTREPOT_TOKEN_FILE", "file that holds the bearer token for the hub"),
)

_LIMIT = 4 * 1024 * 1024
"""Largest answer that is read, in bytes; the platform's own pages are a tenth of it."""


@dataclass(frozen=True)
class Platform:
    """Where the admin API is. `configured` is false when the server runs alone."""

    url: str = ""
    socket: Path | None = None
    token_file: Path | None = None
    seconds: float = 15.0

    @classmethod
    def from_environment(cls, environment: Environment) -> Platform:
        """Read VARIABLES."""
        return cls(
            environment.text("ENTREPOT_URL").rstrip("/"),
            environment.path("ENTREPOT_SOCKET"),
            environment.path("ENTREPOT_TOKEN_FILE"),
        )

    @property
    def configured(self) -> bool:
        """Whether an address is known."""
        return bool(self.url or self.socket)

    async def request(self, method: str, path: str, body: object = None, **query: str | int) -> dict[str, Any]:
        """Send one request below `/api/v1` and return the JSON object. Raises Fault."""
        if not self.configured:
            raise Fault(
                "This server does not know the platform's admin API, so it cannot see or change anything there.",
                code="not-configured",
                owner="administrator",
                hint="Set ENTREPOT_URL (or ENTREPOT_SOCKET) and ENTREPOT_TOKEN_FILE for this server, then restart it.",
            )
        headers = {"authorization": f"Bearer {token}"} if (token := self._token()) else {}
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket)) if self.socket else None
        base = self.url or "http://localhost"
        try:
            async with (
                httpx.AsyncClient(base_url=base, transport=transport, timeout=self.seconds, headers=headers) as client,
                client.stream(method, f"/api/v1{path}", json=body, params=query) as response,
            ):
                content = await _bounded(response)
        except httpx.HTTPError as error:
            raise Fault(
                f"The platform's admin API did not answer ({type(error).__name__}).",
                code="platform-unreachable",
                owner="administrator",
                hint="Check that the hub is running (entrepot status) and that ENTREPOT_URL is its address.",
            ) from error
        return _object(response.status_code, content)

    def _token(self) -> str:
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Fault(
                "The token for the platform's admin API cannot be read.",
                code="token-unreadable",
                owner="administrator",
                hint="Make the file named in ENTREPOT_TOKEN_FILE readable for this server.",
            ) from error


async def _bounded(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _LIMIT:
            raise Fault("The platform's answer is too large.", code="too-large", hint="Ask for less at once.")
        parts.append(part)
    return b"".join(parts)


def _object(status: int, content: bytes) -> dict[str, Any]:
    try:
        parsed: object = json.loads(content or b"{}")
    except ValueError:
        parsed = None
    told = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    if status < 400 and isinstance(parsed, dict):
        return told
    message = str(told.get("detail") or told.get("title") or f"The platform answered with status {status}.")
    if status in (401, 403):
        hint = "Give this server a token whose scopes allow it (ENTREPOT_TOKEN_FILE)."
        raise Fault(message, code="platform-refused", owner="administrator", hint=str(told.get("hint") or hint))
    owner = "caller" if status in (400, 404, 409, 422) else "administrator"
    raise Fault(message, code=str(told.get("code") or "platform-error"), owner=owner, hint=str(told.get("hint") or ""))
