"""A modern client's call to a server that speaks only legacy revisions (protocol section 2.4).

It runs within a session that the hub holds for the client's principal. A question of the server's ends the client's
request with `input_required`, and the call rests (`parks.py`) until the client comes back with answers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.snapshot import Server, Target
from hub.catalog.watcher import Changes
from hub.errors import (
    BadRequest,
    HubError,
    InvalidParams,
    OutcomeUnknown,
    UpstreamDown,
    UpstreamError,
    UpstreamTimeout,
)
from hub.gateway.answers import failed, result_of, verdict_of
from hub.gateway.bridged import BridgedSessions
from hub.gateway.calls import Call, Emit, Outcome
from hub.gateway.errands import Errands
from hub.gateway.outgoing import retargeted, set_caller
from hub.gateway.parks import GATHER_SECONDS, SILENT, Asked, Hearing, Park, Parks
from hub.gateway.questions import ASKING, NONE, Abilities, abilities, can, unasked
from hub.upstream import jsonrpc
from hub.upstream.connection import Incoming
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.legacy_http import SessionLost
from hub.upstream.modern_http import META

CAPABILITIES = META + "clientCapabilities"

URL_NEEDED = -32042
"""A legacy server's "go to this address first"; retired in 2026-07-28."""

CACHEABLE = frozenset({"resources/read"})


class MissingAbility(BadRequest):
    """The server cannot serve a client that lacks a capability (-32021)."""

    code, rpc = "missing-capability", -32021


class Upward:
    """Serves these calls."""

    def __init__(self, sessions: BridgedSessions, parks: Parks, changes: Changes, errands: Errands) -> None:
        self._sessions = sessions
        self._parks = parks
        self._changes = changes
        self._errands = errands
        self._counter = itertools.count(1)

    async def send(self, call: Call, server: Server, target: Target, emit: Emit) -> Outcome:
        """The server's answer, or its questions. A retry with a state of ours goes on where the call was left."""
        told = call.meta.get(CAPABILITIES)
        able = abilities(told) if told and call.method in ASKING else NONE
        if "requestState" in call.params:
            return await self._go_on(call, server, able, emit)
        identifier = b"%d" % next(self._counter)
        # Requests of many clients share a session, so tokens need a space of their own.
        own_token = f"hub-{identifier.decode()}"
        hearing = Hearing(call, server.name, own_token, self._changes)
        body = jsonrpc.request(identifier, call.method, _params(call, server, target, own_token))
        try:
            return await self._ask(call, server, able, hearing, identifier, body, emit)
        except SessionLost:
            # Nothing was done in the session that was forgotten; once more, in a new one.
            return await self._ask(call, server, able, hearing, identifier, body, emit)

    async def _ask(
        self,
        call: Call,
        server: Server,
        able: Abilities,
        hearing: Hearing,
        identifier: bytes,
        body: bytes,
        emit: Emit,
    ) -> Outcome:
        held = await self._sessions.lend(server, call.principal.subject, able, _unheard)

        async def on_message(message: Message) -> None:
            if message.is_request:
                if can(able, message.method, message.params()) and self._parks.takes(call.principal.subject):
                    raise Asked(message)
                # Not waited for: over HTTP+SSE this is the reader of the session's only stream.
                self._errands.send(held.session.notify(unasked(message, able)))
                return
            told = hearing.hear(message)
            if told is not None:
                await emit(told)

        try:
            if hearing.level < SILENT and "logging" in server.capabilities.get("legacy", {}):
                await held.log_from(hearing.level)
            incoming = await held.session.request(identifier, call.method, body, on_message)
        except Asked as left:
            park = Park(call, held, identifier, able, hearing)
            self._parks.park(park, left, held.session.upstream.bounds)
        except BaseException as error:
            self._sessions.give_back(held)
            if isinstance(error, SessionLost) or (
                isinstance(error, UpstreamDown) and held.session.upstream.has_siblings
            ):
                self._sessions.lose(held)
            elif isinstance(error, asyncio.CancelledError):
                notice = {"requestId": identifier, "reason": b'"the client went away"'}
                self._errands.send(held.session.notify(jsonrpc.notification("notifications/cancelled", notice)))
            raise
        else:
            self._sessions.give_back(held)
            return _outcome(call, server, able, incoming)
        return await self._attend(park, call, server, emit)

    async def _go_on(self, call: Call, server: Server, able: Abilities, emit: Emit) -> Outcome:
        """A client with answers to the questions of a call that rests."""
        try:
            responses = jsonrpc.fragments(call.params["inputResponses"]) if "inputResponses" in call.params else {}
        except jsonrpc.NotJson as error:
            raise InvalidParams("params.inputResponses must be an object") from error
        park = self._parks.find(call, jsonrpc.value(call.params["requestState"]))
        self._parks.attend(park, call, able)
        try:
            await self._parks.answer(park, responses)
        except asyncio.CancelledError:
            self._parks.cancel(park, "the client went away")
            raise
        except HubError as error:
            self._parks.cancel(park, "the answer could not be handed over")
            raise OutcomeUnknown(
                f"Server {server.name!r} did not take the answer: {error.message}",
                hint="The call may have had its effect: check before you call again.",
            ) from error
        return await self._attend(park, call, server, emit)

    async def _attend(self, park: Park, call: Call, server: Server, emit: Emit) -> Outcome:
        """What the server says until it answers, or asks again; then the call rests once more."""
        bounds = park.held.session.upstream.bounds
        patience = bounds.idle_seconds or bounds.answer_seconds
        try:
            while True:
                while park.heard:
                    told = park.hearing.hear(park.heard.popleft())
                    if told is not None:
                        await emit(told)
                if park.outcome is not None:
                    break
                park.changed.clear()
                if park.asked:
                    await asyncio.sleep(GATHER_SECONDS)
                    if park.asked and park.outcome is None:
                        return _questions(call, park.asked, self._parks.rest(park))
                else:
                    async with asyncio.timeout(patience):
                        await park.changed.wait()
        except TimeoutError as error:
            self._parks.cancel(park, "the server fell silent")
            raise UpstreamTimeout(f"Server {server.name!r} fell silent", hint="Raise the server's deadline.") from error
        except asyncio.CancelledError:
            self._parks.cancel(park, "the client went away")
            raise
        self._parks.drop(park)
        if isinstance(park.outcome, HubError):
            raise park.outcome
        return _outcome(call, server, park.able, park.outcome)


def _params(call: Call, server: Server, target: Target, own_token: str) -> Fragments:
    """What the server is sent: without what only the modern era, or only this client, knows."""
    params = retargeted(call, target)
    for only_modern in ("inputResponses", "task"):
        params.pop(only_modern, None)
    meta: dict[str, Any] = {
        name: value for name, value in call.meta.items() if not name.startswith(META) and name != "progressToken"
    }
    if "progressToken" in call.meta:
        meta["progressToken"] = own_token
    params["_meta"] = Raw(jsonrpc.dumps(meta))
    set_caller(params, call, server)
    return params


def _questions(call: Call, asked: Mapping[str, Message], state: bytes | None) -> Outcome:
    """The end of a request whose client is asked something first."""
    requests: dict[str, bytes | Raw] = {}
    for key, question in asked.items():
        params = question.params()
        # The modern era has no notice of completion that this would belong to: a retry is how one learns.
        params.pop("elicitationId", None)
        told: dict[str, bytes | Raw] = {"method": orjson.dumps(question.method)}
        requests[key] = jsonrpc.write(told | ({"params": jsonrpc.write(params)} if params else {}))
    result: dict[str, bytes | Raw] = {
        "resultType": b'"input_required"',
        "inputRequests": jsonrpc.write(requests),
    }
    if state is not None:
        result["requestState"] = state
    return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result)), "input_required")


def _outcome(call: Call, server: Server, able: Abilities, incoming: Incoming) -> Outcome:
    """A legacy answer as the modern era knows it."""
    failure = failed(call.identifier, incoming)
    if failure is not None:
        if jsonrpc.failure(incoming.message)[0] == URL_NEEDED and call.method in ASKING:
            return _sent_elsewhere(call, able, incoming.message)
        return failure
    result = result_of(server, incoming.message)
    added: dict[str, bytes | Raw] = {"resultType": b'"complete"'}
    if call.method in CACHEABLE:
        added |= {"ttlMs": b"0", "cacheScope": b'"private"'}
    return Outcome(200, jsonrpc.result(call.identifier, jsonrpc.write(result | added)), verdict_of(result))


def _sent_elsewhere(call: Call, able: Abilities, message: Message) -> Outcome:
    """A server that wants its user at some address first did nothing yet: nothing rests, the retry is a new call."""
    if "elicitation.url" not in able:
        raise MissingAbility(
            "The server sends its user to a web page first", data={"requiredCapabilities": {"elicitation": {"url": {}}}}
        )
    asked: dict[str, Message] = {}
    try:
        data = jsonrpc.fragments(jsonrpc.fragments(message.members["error"])["data"])
        for number, params in enumerate(jsonrpc.array(data["elicitations"]), 1):
            raw = jsonrpc.request(b"0", "elicitation/create", jsonrpc.fragments(params))
            asked[f"elicitation-{number}"] = jsonrpc.read(raw)
    except (jsonrpc.NotJson, KeyError) as error:
        raise UpstreamError("The server sends its user to a web page and does not say to which") from error
    return _questions(call, asked, None)


async def _unheard(_message: Message) -> None:
    """Nothing that a server says during the handshake is for the client."""
