"""A legacy client's call to a server that speaks only 2026-07-28 (protocol section 2.5).

The hub speaks with that client's capabilities and log level, puts the server's questions to it as requests on its
own stream, and brings the answers in the next round. What only the modern era knows is taken off the result.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.snapshot import Server, Target
from hub.errors import InvalidParams, TooMany, UpstreamError
from hub.gateway.answers import failed, result_of, verdict_of, withdrawn
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.follows import UPDATED, Follows
from hub.gateway.outgoing import mirrored, retargeted, set_caller
from hub.gateway.questions import abilities, can
from hub.gateway.sessions import MOST_FOLLOWED, Session, own_headers
from hub.upstream import jsonrpc
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.modern_http import META, NAME_KEYS, ModernChannel, envelope
from hub.upstream.pool import Pool

MOST_ROUNDS = 10
"""Rounds of questions within one call; the reference client's limit."""

MODERN_ONLY = ("resultType", "ttlMs", "cacheScope")


SUBSCRIBING = frozenset({"resources/subscribe", "resources/unsubscribe"})


class Downward:
    """Serves these calls."""

    def __init__(self, pool: Pool, follows: Follows) -> None:
        self._pool = pool
        self._follows = follows
        self._counter = itertools.count(1)

    async def send(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """A legacy client, a modern server: the hub speaks with its capabilities and asks it the questions."""
        session = call.session
        if session is None:
            raise InvalidParams("This request needs a session", hint="Send initialize first.")
        if call.method in SUBSCRIBING:
            await self._subscribe(call, session, server, target)
            return Outcome(200, jsonrpc.result(call.identifier, b"{}"), "ok")
        params = retargeted(call, target)
        capabilities = {key: value for key, value in session.capabilities.items() if key != "roots"}
        if "roots" in session.capabilities:
            capabilities["roots"] = {}
        meta = dict(call.meta) | envelope(capabilities, session.client)
        if session.log_level:
            meta[META + "logLevel"] = session.log_level
        params["_meta"] = Raw(jsonrpc.dumps(meta))
        set_caller(params, call, server)
        upstream = self._pool.upstream(server.name, server.address, server.digest)
        headers = (*mirrored(target, params), *own_headers(server, call.principal.subject))
        channel = ModernChannel(upstream, target.name if call.method in NAME_KEYS else None, headers)

        async def on_message(message: Message) -> None:
            await emit(message.raw)

        task = asyncio.current_task()
        cancelled = False

        def cancel(_notice: Message) -> None:
            nonlocal cancelled
            if not cancelled and task is not None:
                cancelled = True
                task.cancel()

        session.running[call.identifier] = cancel
        try:
            for _ in range(MOST_ROUNDS):
                body = jsonrpc.request(call.identifier, call.method, params)
                incoming = await channel.request(call.identifier, call.method, body, on_message)
                failure = failed(call.identifier, incoming)
                if failure is not None:
                    return failure
                result = result_of(server, incoming.message)
                if not jsonrpc.same(result.get("resultType"), b'"input_required"'):
                    return _legacy_form(call, result)
                questions = _questions(server, session, result)
                answers = {key: await self._ask(session, emit, *asked) for key, asked in questions.items()}
                params["inputResponses"] = Raw(jsonrpc.write(answers))
                if "requestState" in result:
                    params["requestState"] = result["requestState"]
        except asyncio.CancelledError:
            if not cancelled or task is None or task.uncancel() > 0:
                raise
            return withdrawn(call)
        finally:
            session.running.pop(call.identifier, None)
        raise UpstreamError(f"Server {server.name!r} asks without end")

    async def _subscribe(self, call: Call, session: Session, server: Server, target: Target) -> None:
        """This era's servers take no such request: the hub follows the resource, for the life of the session."""
        known = session.followed.pop(call.name, None)
        if known is not None:
            known()
        if call.method == "resources/unsubscribe":
            return
        if len(session.followed) >= MOST_FOLLOWED:
            raise TooMany(f"A session may follow {MOST_FOLLOWED} resources", hint="Unsubscribe from some.")

        def told(uri: str) -> None:
            exposed = call.name + uri[len(target.name) :]
            session.tell(jsonrpc.notification(UPDATED, {"uri": orjson.dumps(exposed)}))

        followed = self._follows.follow(server, call.principal.subject, [(target.name, told)])
        (session.followed[call.name],) = followed.ends
        await followed.settled()

    async def _ask(self, session: Session, emit: Emit, method: str, params: Fragments) -> bytes:
        """One question of a modern server, put to a legacy client."""
        if jsonrpc.same(params.get("mode"), b'"url"') and "elicitationId" not in params:
            # Required by 2025-11-25, gone in 2026-07-28.
            params["elicitationId"] = Raw(orjson.dumps(f"hub-{next(self._counter)}"))
        response = await session.ask(emit, method, jsonrpc.write(params))
        raw_result = response.members.get("result")
        if raw_result is None:
            raise InvalidParams(f"The client did not answer {method}: {jsonrpc.failure(response)[1]}")
        return bytes(raw_result)


def _questions(server: Server, session: Session, result: Fragments) -> dict[str, tuple[str, Fragments]]:
    """Method and parameters of each question by key. Raises `UpstreamError` for what this client cannot be asked."""
    able = abilities(session.capabilities)
    try:
        asked = jsonrpc.fragments(result["inputRequests"]) if "inputRequests" in result else {}
        told: dict[str, tuple[str, Fragments]] = {}
        for key, raw in asked.items():
            question = jsonrpc.fragments(raw)
            params = jsonrpc.fragments(question["params"]) if "params" in question else {}
            told[key] = (str(jsonrpc.value(question["method"])), params)
    except (jsonrpc.NotJson, KeyError) as error:
        raise UpstreamError(f"Server {server.name!r} asks in a form that is not the protocol's") from error
    for method, params in told.values():
        if not can(able, method, params):
            # The server was told what the client can be asked; the client must not see more.
            raise UpstreamError(f"Server {server.name!r} asks {method[:60]}, which this client did not declare")
    return told


def _legacy_form(call: Call, result: Fragments) -> Outcome:
    """A modern result as 2025-11-25 knows it: without its new members, structured content only as an object."""
    kept: Mapping[str, Any] = {
        key: raw
        for key, raw in result.items()
        if key not in MODERN_ONLY and (key != "structuredContent" or bytes(raw).lstrip()[:1] == b"{")
    }
    return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(dict(kept))), verdict_of(result))
