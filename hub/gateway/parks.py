"""Calls at rest: a legacy server asked something in the middle of a modern client's call, and waits for the answer.

The server's stream stays open and is read by a task of the park's own, while the client's request has ended with
`input_required` and a sealed state. Whoever comes back with that state as the same principal, with the same request,
goes on where the call was left. Nobody comes: the call is cancelled at the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from typing import Any

import orjson
from msgspec import Raw

from hub.catalog.watcher import Changes
from hub.errors import HubError, InvalidParams, OutcomeUnknown, UpstreamError
from hub.gateway.answers import PROGRESS, is_progress
from hub.gateway.bridged import BridgedSessions, Held
from hub.gateway.calls import Call
from hub.gateway.errands import Errands
from hub.gateway.questions import Abilities, can, unasked
from hub.gateway.seals import Seals
from hub.gateway.sessions import ASK_SECONDS, LOG_LEVELS
from hub.ids import new_id
from hub.upstream import jsonrpc
from hub.upstream.connection import Handover, Incoming, Rest
from hub.upstream.jsonrpc import Fragments, Message
from hub.upstream.modern_http import META
from hub.upstream.terms import Bounds

MOST_PARKS = 1000
"""Calls at rest at once: each holds a connection, a session and a place at its server."""

MOST_OF_ONE = 50
"""Of one principal, so that a client which never answers takes nobody else's places."""

MOST_QUESTIONS = 20
"""Open questions of one call; more are refused."""

MOST_HEARD = 1000
"""Notifications kept for the client's return; the oldest are dropped."""

GATHER_SECONDS = 0.03
"""How long a question waits for others of the same round, so that a person is asked once."""

PREFIX = "park."
ROUTINE = frozenset({"_meta", "inputResponses", "requestState"})
"""What may differ between a request and its retry."""

LOG_LEVEL = META + "logLevel"
SILENT = len(LOG_LEVELS)
"""The level of a caller that wants no log."""


class Elsewhere(Exception):
    """The call rests on another worker, whose number this carries."""

    def __init__(self, worker: int) -> None:
        super().__init__(worker)
        self.worker = worker


class Asked(Handover):
    """Raised out of an `on_message`: the server has a question, so the call is to rest."""

    def __init__(self, question: Message) -> None:
        super().__init__(question.method)
        self.question = question


class Hearing:
    """What of a call's notifications is for its client, and in which words: each retry may bring others."""

    def __init__(self, call: Call, server: str, own_token: str, changes: Changes) -> None:
        self._server = server
        self._own_token = own_token
        self._changes = changes
        self.follow(call)

    def follow(self, call: Call) -> None:
        """The request that is to hear from now on. Raises `InvalidParams` for a log level that is none."""
        self._token = call.meta.get("progressToken")
        level = call.meta.get(LOG_LEVEL)
        if level is None:
            self.level = SILENT
        elif level in LOG_LEVELS:
            self.level = LOG_LEVELS.index(level)
        else:
            raise InvalidParams(f"{LOG_LEVEL} must be one of {', '.join(LOG_LEVELS)}")

    def hear(self, message: Message) -> bytes | None:
        """What the client is told; None when this is nothing for it."""
        if message.method == PROGRESS:
            if self._token is None or not is_progress(message, self._own_token):
                return None
            return jsonrpc.notification(
                message.method, message.params() | {"progressToken": Raw(jsonrpc.dumps(self._token))}
            )
        if message.method == "notifications/message":
            level = jsonrpc.value(message.params().get("level", b'""'))
            return message.raw if level in LOG_LEVELS and LOG_LEVELS.index(level) >= self.level else None
        self._changes.heard(self._server, message.method)
        return None


class Park:
    """One call at rest, or on its way again."""

    def __init__(self, call: Call, held: Held, identifier: bytes, able: Abilities, hearing: Hearing) -> None:
        self.id = new_id(bits=160)
        self.subject = call.principal.subject
        self.fingerprint = fingerprint(call)
        self.held = held
        self.identifier = identifier
        self.able = able
        self.hearing = hearing
        self.asked: dict[str, Message] = {}
        self.heard: deque[Message] = deque(maxlen=MOST_HEARD)
        self.outcome: Incoming | HubError | None = None
        self.changed = asyncio.Event()
        self.attended = True
        self.until = 0.0
        self.expiry: asyncio.TimerHandle | None = None
        self.reader: asyncio.Task[None] | None = None
        self._count = 0

    def ask(self, question: Message) -> None:
        """One more question for the client, under a key of its own."""
        self._count += 1
        word = question.method.partition("/")[0]
        self.asked[f"{word}-{self._count}"] = question
        self.changed.set()

    def retract(self, params: Fragments) -> None:
        """The server does not want to know any more."""
        wanted = bytes(params.get("requestId", b""))
        for key in [key for key, question in self.asked.items() if jsonrpc.same_id(question.id, wanted)]:
            del self.asked[key]
        self.changed.set()


class Parks:
    """The calls at rest on this worker."""

    def __init__(
        self,
        seals: Seals,
        sessions: BridgedSessions,
        errands: Errands,
        worker: int = 0,
        seconds: float = ASK_SECONDS,
    ) -> None:
        self._seals = seals
        self._sessions = sessions
        self._errands = errands
        self._worker = worker
        self._seconds = seconds
        self._parks: dict[str, Park] = {}
        self._of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._parks)

    def owner(self, state: object) -> int | None:
        """The other worker on which the call of a state rests; None when it is this one, or the state another's."""
        if not isinstance(state, str) or not state.startswith(PREFIX):
            return None
        number, _, _ = state[len(PREFIX) :].partition(".")
        if not number.isdigit() or len(number) > 3 or int(number) == self._worker:
            return None
        return int(number)

    def takes(self, subject: str) -> bool:
        """Whether one more call of a principal may rest."""
        return len(self._parks) < MOST_PARKS and self._of.get(subject, 0) < MOST_OF_ONE

    def park(self, park: Park, left: Asked, bounds: Bounds) -> None:
        """Take over a call that its server interrupted with a question."""
        self._parks[park.id] = park
        self._of[park.subject] = self._of.get(park.subject, 0) + 1
        park.ask(left.question)
        patient = Bounds(bounds.connect_seconds, self._seconds + bounds.answer_seconds, bounds.answer_bytes)
        park.reader = asyncio.create_task(self._read(park, left.rest, patient))

    def find(self, call: Call, state: object) -> Park:
        """The call that a client comes back to. Raises `InvalidParams` for a state that is not its, or not any more."""
        if not isinstance(state, str) or not state.startswith(PREFIX):
            raise _foreign()
        told = self._seals.open_call(state[len(PREFIX) :].partition(".")[2])
        identifier, subject, mark, until = told
        if subject != call.principal.subject or mark != fingerprint(call):
            raise _foreign()
        park = self._parks.get(identifier)
        if park is None or until < time.time():
            raise not_waiting()
        if park.attended:
            raise InvalidParams("This call is being answered already", hint="Wait for that answer.")
        return park

    def rest(self, park: Park) -> bytes:
        """The client goes away to find answers; the state with which it will come back, as JSON."""
        park.attended = False
        park.until = time.time() + self._seconds
        park.expiry = asyncio.get_running_loop().call_later(self._seconds, self.cancel, park, "nobody answered")
        sealed = self._seals.seal_call([park.id, park.subject, park.fingerprint, park.until])
        return orjson.dumps(f"{PREFIX}{self._worker}.{sealed}")

    def attend(self, park: Park, call: Call, able: Abilities) -> None:
        """The client is back."""
        park.hearing.follow(call)
        park.able = able
        park.attended = True
        if park.expiry is not None:
            park.expiry.cancel()
            park.expiry = None

    async def answer(self, park: Park, responses: Fragments) -> None:
        """Hand the client's answers to the server; what is not an object is no answer, and extra ones are ignored."""
        for key in [key for key in park.asked if bytes(responses.get(key, b"")).lstrip()[:1] == b"{"]:
            question = park.asked.pop(key)
            await park.held.session.notify(jsonrpc.result(question.id or b"null", responses[key]))

    def cancel(self, park: Park, why: str) -> None:
        """End a call: its server is told, and its stream closed."""
        if park.outcome is None:
            notice: dict[str, Any] = {"requestId": park.identifier, "reason": orjson.dumps(why)}
            self._errands.send(park.held.session.notify(jsonrpc.notification("notifications/cancelled", notice)))
        self.drop(park)

    def drop(self, park: Park) -> None:
        """A call that is over."""
        if self._parks.pop(park.id, None) is None:
            return
        left = self._of[park.subject] - 1
        if left:
            self._of[park.subject] = left
        else:
            del self._of[park.subject]
        if park.expiry is not None:
            park.expiry.cancel()
        if park.reader is not None:
            # Not at once: a task that is cancelled before its first step would never close the server's stream.
            asyncio.get_running_loop().call_soon(park.reader.cancel)

    async def _read(self, park: Park, rest: Rest, bounds: Bounds) -> None:
        async def on_message(message: Message) -> None:
            if message.is_request:
                if not can(park.able, message.method, message.params()) or len(park.asked) >= MOST_QUESTIONS:
                    self._errands.send(park.held.session.notify(unasked(message, park.able)))
                else:
                    park.ask(message)
                return
            if message.method == "notifications/cancelled":
                park.retract(message.params())
                return
            park.heard.append(message)
            park.changed.set()

        try:
            park.outcome = await rest(on_message, bounds)
        except HubError as error:
            park.outcome = error
        except jsonrpc.NotJson:
            park.outcome = UpstreamError("The server said what is not of the protocol's form")
        finally:
            if park.outcome is None:
                park.outcome = OutcomeUnknown("The call was ended while it was under way")
            self._sessions.give_back(park.held)
            park.changed.set()

    async def close(self) -> None:
        """End all of them; their sessions end right after."""
        readers = [park.reader for park in self._parks.values() if park.reader is not None]
        for park in list(self._parks.values()):
            self.drop(park)
        await asyncio.gather(*readers, return_exceptions=True)


def fingerprint(call: Call) -> str:
    """What makes a retry the same request, however its JSON is written: the method and its own parameters."""
    same = {key: jsonrpc.value(raw) for key, raw in call.params.items() if key not in ROUTINE}
    try:
        text = orjson.dumps([call.view.key, call.method, same], option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidParams("The parameters are nested too deep for a call that may rest") from error
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def not_waiting() -> InvalidParams:
    """The call of a state is over, or its worker gone. It is never begun again by itself: it may have had effects."""
    return InvalidParams(
        "This call is not waiting for an answer any more",
        hint="It may have had its effect: check before you call again from the start.",
    )


def _foreign() -> InvalidParams:
    return InvalidParams("Unknown requestState", hint="Send back exactly what you were given, as the same caller.")
