"""The hub's own faces called in process: one admission for the UI, the parts and the network alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Scope

from hub.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None when it is empty."""
        return orjson.loads(self.body) if self.body else None


class InProcess:
    """Requests to an ASGI app as a given principal, past the network and past authentication, never past admission."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def request(
        self,
        principal: Principal,
        method: str,
        path: str,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for `path` (with its query string) and collect the answer."""
        body = b"" if json is None else orjson.dumps(json)
        bare, _, query = path.partition("?")
        sent = {"content-type": "application/json", "accept": "application/json, text/event-stream"} | dict(
            headers or {}
        )
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": bare,
            "raw_path": bare.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": None,
            "server": None,
            "principal": principal,
            "state": {},
        }
        asked = False
        status, collected = 500, bytearray()
        answered: dict[str, str] = {}

        async def receive() -> Message:
            nonlocal asked
            if asked:
                # Nobody leaves in process; whoever waits for that is cancelled with the request.
                await asyncio.get_running_loop().create_future()
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = {
                    name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
                }
            elif message["type"] == "http.response.body":
                collected.extend(message.get("body", b""))

        await self._app(scope, receive, send)
        return Answer(status, answered, bytes(collected))
