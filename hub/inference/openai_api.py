"""`/v1/*`: the OpenAI-compatible face. Admit, validate, record around; the work is done in `chat` and `embeddings`.

A model that is denied and one that is not there get the same answer. Guardrails, budgets and routing over several
endpoints are not here.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, TypeVar

import anyio
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub.errors import BadRequest, HubError, NotFound, TooLarge, TooMany, Unauthenticated, UpstreamError
from hub.identity.principal import Principal
from hub.ids import Clock, system_clock
from hub.inference.chat import Chat, Count
from hub.inference.embeddings import embed
from hub.inference.registry import Models
from hub.inference.relay import ModelDown, Relay
from hub.inference.requests import ChatRequest, EmbeddingRequest, read
from hub.inference.spec import Kind, Model
from hub.inference.stream import DONE, event
from hub.inference.usage import Usage

MAX_BODY_BYTES = 4 * 2**20
SERVER = "model"
"""What admission and audit know all models as."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
"""OpenAI's `type` for a status; all others are `api_error`."""

Answered = TypeVar("Answered")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Verdict(Protocol):
    """What admission says (`hub.policy.admission.Decision`)."""

    @property
    def allow(self) -> bool:
        """Whether the thing may be done."""
        ...

    @property
    def rule(self) -> str:
        """The rule that said so; for the audit only."""
        ...


Decide = Callable[[Principal, str, str, str], Verdict]
"""principal, action, server, name (`hub.policy.admission.Admission.decide`)."""


class Recording(Protocol):
    """One thing being recorded (`hub.audit.recorder.Recording`)."""

    outcome: str
    detail: str


class Recorder(Protocol):
    """Records what is done (`hub.audit.recorder.Audit`)."""

    def recording(
        self, event: str, principal: Principal | None, *, server: str = "", target: str = "", trace: str = ""
    ) -> AbstractContextManager[Recording]:
        """A block whose end writes the record."""
        ...


class UnknownModel(NotFound):
    """No such model, for this caller. `outcome` is what the audit notes."""

    code = "model_not_found"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The model {name!r} does not exist or you may not use it.",
            hint="GET /v1/models lists the models that you may use.",
            reason=reason,
            data={"param": "model"},
        )
        self.outcome = "denied" if reason else "not-found"


class OpenAi:
    """The model face of one worker."""

    def __init__(
        self,
        models: Models,
        relay: Relay,
        *,
        decide: Decide,
        audit: Recorder,
        usage: Usage,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Clock = system_clock,
    ) -> None:
        self._models = models
        self._relay = relay
        self._decide = decide
        self._audit = audit
        self._usage = usage
        self._max_body_bytes = max_body_bytes
        self._chat = Chat(models, relay, clock)

    def routes(self) -> list[Route]:
        """What the hub mounts."""
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route("/v1/models/{name:path}", self.show, methods=["GET"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """The models that the caller may use."""
        try:
            principal = _principal(request)
        except HubError as error:
            return problem(error, _trace(request))
        return _json(
            {"object": "list", "data": [_card(m) for m in self._models.served() if self._may(principal, m.name)]}
        )

    async def show(self, request: Request) -> Response:
        """One model."""
        try:
            return _json(_card(self._admit(_principal(request), request.path_params["name"])))
        except HubError as error:
            return problem(error, _trace(request))

    async def embeddings(self, request: Request) -> Response | EventStream:
        """Vectors for texts."""

        async def work(principal: Principal, body: bytes, trace: str) -> Response:
            asked, _ = read(body, EmbeddingRequest)
            with self._recorded(principal, asked.model, trace) as using:
                model = self._admit(principal, asked.model, "embedding")
                using.model = model
                answer, using.count.tokens = await embed(self._relay, model, asked)
                return _json(answer)

        return await self._answered(request, work)

    async def chat(self, request: Request) -> Response | EventStream:
        """A completion, whole or as an event stream."""

        async def work(principal: Principal, body: bytes, trace: str) -> Response | EventStream:
            asked, given = read(body, ChatRequest)
            if asked.stream:
                return await self._streamed(principal, asked, given, trace)
            with self._recorded(principal, asked.model, trace) as using:
                using.model = self._admit(principal, asked.model, "chat")
                return _json(await self._chat.complete(using.model, given, using.count))

        return await self._answered(request, work)

    async def _streamed(
        self, principal: Principal, asked: ChatRequest, given: dict[str, Any], trace: str
    ) -> EventStream:
        """Wait for the first event, so that what fails before it is an ordinary error with its own status."""
        events = self._events(principal, asked, given, trace)
        try:
            first = await anext(events)
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await events.aclose()
            raise
        return EventStream(first, events, trace)

    async def _events(
        self, principal: Principal, asked: ChatRequest, given: dict[str, Any], trace: str
    ) -> AsyncGenerator[bytes]:
        """The record is written before `[DONE]` leaves."""
        with self._recorded(principal, asked.model, trace) as using:
            using.model = self._admit(principal, asked.model, "chat")
            async with aclosing(self._chat.stream(using.model, asked, given, using.count)) as events:
                async for piece in events:
                    yield piece
        yield DONE

    async def _answered(
        self, request: Request, work: Callable[[Principal, bytes, str], Awaitable[Response | EventStream]]
    ) -> Response | EventStream:
        trace = _trace(request)
        try:
            principal = _principal(request)
            body = await self._body(request)
            return await _unless_gone(request, lambda: work(principal, body, trace))
        except ClientDisconnect:
            return Response(status_code=499)
        except HubError as error:
            return problem(error, trace)

    async def _body(self, request: Request) -> bytes:
        collected = bytearray()
        async for piece in request.stream():
            collected += piece
            if len(collected) > self._max_body_bytes:
                raise TooLarge(f"The body is larger than {self._max_body_bytes} bytes.")
        return bytes(collected)

    def _may(self, principal: Principal, name: str) -> bool:
        return self._decide(principal, "model:use", SERVER, name).allow

    def _admit(self, principal: Principal, name: str, kind: Kind | None = None) -> Model:
        verdict = self._decide(principal, "model:use", SERVER, name)
        if not verdict.allow:
            raise UnknownModel(name, f"denied: {verdict.rule}")
        model = self._models.find(name)
        if model is None:
            raise UnknownModel(name, "")
        if kind is not None and model.kind != kind:
            path = "/v1/embeddings" if model.kind == "embedding" else "/v1/chat/completions"
            raise WrongKind(f"Model {name!r} is not for this.", hint=f"Use it with {path}.", data={"param": "model"})
        return model

    def _recorded(self, principal: Principal, name: str, trace: str) -> _Using:
        recording = self._audit.recording("model:use", principal, server=SERVER, target=name, trace=trace)
        return _Using(recording, self._models, self._usage, principal)


class WrongKind(BadRequest):
    """A chat model asked for vectors, or the reverse. HTTP 400."""

    code = "wrong_model_kind"


class _Using:
    """One use of a model while it lasts: the audit's block, the counters and what it taught about the endpoint."""

    def __init__(
        self, recording: AbstractContextManager[Recording], models: Models, usage: Usage, principal: Principal
    ) -> None:
        self._recording = recording
        self._models = models
        self._usage = usage
        self._principal = principal
        self._started = perf_counter()
        self._record: Recording | None = None
        self.model: Model | None = None
        self.count = Count()

    def __enter__(self) -> _Using:
        self._record = self._recording.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = "ok" if error is None else error.code if isinstance(error, HubError) else "cancelled"
        if self.model is not None:
            self._note(self.model, error, outcome)
        if isinstance(error, GeneratorExit) and self._record is not None:
            # The caller went away while a piece was being sent: for the audit that is no error of ours.
            self._record.outcome = "cancelled"
            kind = error = trace = None
        self._recording.__exit__(kind, error, trace)

    def _note(self, model: Model, error: BaseException | None, outcome: str) -> None:
        tokens = self.count.tokens
        if self._record is not None:
            self._record.detail = f"input_tokens={tokens.input} output_tokens={tokens.output}" if error is None else ""
        seconds = perf_counter() - self._started
        self._usage.record(model.name, self._principal.subject, tokens, outcome=outcome, seconds=seconds)
        if error is None:
            self._models.saw(model.name, "ready")
        elif isinstance(error, UpstreamError):
            self._models.saw(model.name, "down" if isinstance(error, ModelDown) else "degraded", error.message)


class EventStream:
    """An event stream as an ASGI answer. A caller who goes away cancels the engine's work at once."""

    status_code = 200

    def __init__(self, first: bytes, events: AsyncGenerator[bytes], trace: str) -> None:
        self._first = first
        self._events = events
        self._trace = trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop at the caller's disconnect."""
        try:
            async with anyio.create_task_group() as tasks:
                if _on_a_wire(scope):
                    tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
                await self._send(send)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._events.aclose()

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", self._trace.encode("latin-1")),
        ]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        try:
            async for piece in self._events:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except HubError as error:
            await send({"type": "http.response.body", "body": event(wire(error, self._trace)), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def wire(error: HubError, trace: str) -> dict[str, Any]:
    """An error in OpenAI's form, with who must act, what to do next and the id that joins it to audit and log."""
    told = error.envelope()
    told.setdefault("param", None)
    return {"error": {"message": error.message, "type": TYPES.get(error.status, "api_error")} | told | {"trace": trace}}


def problem(error: HubError, trace: str) -> Response:
    """The same as an answer."""
    headers = {"x-request-id": trace}
    if isinstance(error, TooMany):
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(wire(error, trace)), error.status, headers, "application/json")


async def _unless_gone(request: Request, work: Callable[[], Awaitable[Answered]]) -> Answered:
    """The work's result; raises `ClientDisconnect`, the work cancelled, when the caller goes away first."""
    if not _on_a_wire(request.scope):
        return await work()
    result: Answered | None = None
    failure: HubError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_gone, request.receive, tasks.cancel_scope)
        try:
            result = await work()
        except HubError as error:
            # Carried out of the group by hand, which would wrap it.
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None:
        raise ClientDisconnect
    return result


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _on_a_wire(scope: Scope) -> bool:
    """Whether a disconnect can happen: a call in process (`hub.inprocess`) has no server address, and says it is gone
    as soon as its body was read."""
    return scope.get("server") is not None


def _principal(request: Request) -> Principal:
    principal = request.scope.get("principal")
    if not isinstance(principal, Principal):
        raise Unauthenticated("A key is needed.", hint="Send Authorization: Bearer KEY.")
    return principal


def _trace(request: Request) -> str:
    """The caller's trace id (W3C traceparent), or a new one."""
    given = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return given.group(1) if given else secrets.token_hex(16)


def _card(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "entrepot", "kind": model.kind}


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def build(
    models: Models,
    relay: Relay,
    *,
    decide: Decide,
    audit: Recorder,
    usage: Usage,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> list[Route]:
    """The routes of `/v1`, for the hub to mount. `relay` and `models` stay the caller's, who closes the relay."""
    return OpenAi(models, relay, decide=decide, audit=audit, usage=usage, max_body_bytes=max_body_bytes).routes()
