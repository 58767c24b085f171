"""The catalog's side of the runner's socket: children wanted and forgotten, and where they are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from hub.errors import HubError, NotFound, Unavailable
from hub.upstream.address import Address

STOP_SECONDS = 30.0
"""A stop is answered when the process group is gone; the runner kills after its own, shorter, grace."""


class RunnerClient:
    """Speaks to the runner of this machine. Every method raises `Unavailable` when it cannot be reached."""

    def __init__(self, socket: Path, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._socket = socket
        self._http = httpx.AsyncClient(
            transport=transport or httpx.AsyncHTTPTransport(uds=str(socket)),
            base_url="http://runner",
            timeout=httpx.Timeout(STOP_SECONDS, connect=5.0),
            trust_env=False,
        )

    def address(self, name: str) -> Address:
        """Where the MCP face of a stdio child is reached."""
        return Address(f"http://runner/s/{name}/mcp", socket=str(self._socket))

    async def want(self, name: str, child: dict[str, Any]) -> None:
        """Have this child kept; idempotent, a changed specification restarts it."""
        await self._ask("PUT", f"/children/{name}", child)

    async def engine(self, name: str, spec: dict[str, Any]) -> None:
        """Have this local engine kept; raises what the runner says is missing (weights, an extra)."""
        await self._ask("PUT", f"/engines/{name}", spec)

    async def forget(self, name: str) -> None:
        """Stop a child and drop it; fine when there is none."""
        try:
            await self._ask("DELETE", f"/children/{name}")
        except NotFound:
            return

    async def children(self) -> list[dict[str, Any]]:
        """The runner's children and their states."""
        answer = await self._ask("GET", "/children")
        return list(answer.get("children", []))

    async def scale(self, name: str, replicas: int) -> dict[str, Any]:
        """Want so many processes of a child. Raises `NotFound`."""
        return await self._ask("PUT", f"/children/{name}/replicas", {"replicas": replicas})

    async def restart(self, name: str) -> dict[str, Any]:
        """Stop and start a child. Raises `NotFound`."""
        return await self._ask("POST", f"/children/{name}/restart")

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                "The runner, which owns all child processes, cannot be reached.",
                hint="Start the hub with `entrepot up`, which starts the runner too; `entrepot doctor` looks closer.",
                reason=f"{method} {path}: {error!r}",
            ) from error
        if answer.status_code == 404:
            raise NotFound("The runner has no such child.")
        told = _object(answer)
        if answer.is_success:
            return told
        message = str(told.get("detail") or told.get("title") or told.get("error") or f"status {answer.status_code}")
        error = Unavailable if answer.status_code >= 500 else _Refused
        raise error(f"The runner refused: {message}", hint=str(told.get("hint") or ""))


class _Refused(HubError):
    """The runner does not take this child as declared. HTTP 422."""

    code, status, owner = "refused-by-runner", 422, "administrator"


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        value: Any = answer.json() if answer.content else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - any JSON
