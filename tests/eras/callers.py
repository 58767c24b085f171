"""A client of either era, by hand: what the matrix and the nonce test drive a hub with, through one small face."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.support.hub import META, RunningHub, modern_headers, modern_message

ABLE: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
"""What these clients can be asked: everything."""

Message = dict[str, Any]
Answering = Callable[[str, Message], Message]


@dataclass
class Reply:
    """What became of a request, what was told before, and what was asked."""

    message: Message
    told: list[Message] = field(default_factory=list[Message])
    asked: list[Message] = field(default_factory=list[Message])

    @property
    def result(self) -> Message:
        """The result; an error fails the test."""
        assert "result" in self.message, self.message
        return self.message["result"]

    @property
    def text(self) -> str:
        """The first text of a tool's result."""
        return str(self.result["content"][0]["text"])

    def heard(self, method: str) -> list[Message]:
        """The parameters of the notifications of one kind."""
        return [one["params"] for one in self.told if one["method"] == method]


def answer_all(method: str, params: Message) -> Message:
    """An answer to any question."""
    if method == "roots/list":
        return {"roots": [{"uri": "file:///work"}]}
    if method == "sampling/createMessage":
        return {"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}}
    if params.get("mode") == "url":
        return {"action": "accept"}
    return {"action": "accept", "content": {"username": params["message"], "email": "e"}}


class Heard:
    """The messages of an event stream, as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> Message:
        """The next message; raises `StopAsyncIteration` at the end."""
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line.startswith("data: "):
                    return orjson.loads(line[6:])
        raise StopAsyncIteration

    async def one(self, method: str) -> Message:
        """The parameters of the next notification of a kind."""
        while (message := await self.next())["method"] != method:
            pass
        return message.get("params", {})


@dataclass
class Modern:
    """A client of 2026-07-28."""

    running: RunningHub
    path: str
    token: str | None = None
    answering: Answering = answer_all
    rounds: int = 10
    _ids: Iterable[int] = field(default_factory=lambda: itertools.count(1))

    async def ask(self, method: str, params: Message, *, progress: Any = None, level: str | None = None) -> Reply:
        """A request, and a retry with answers for as long as it is asked something."""
        meta: Message = {f"{META}clientCapabilities": ABLE}
        if progress is not None:
            meta["progressToken"] = progress
        if level is not None:
            meta[f"{META}logLevel"] = level
        reply = Reply({})
        more: Message = {}
        for _ in range(self.rounds):
            await self._round(reply, method, params | more, meta)
            result = reply.message.get("result", {})
            if result.get("resultType") != "input_required":
                break
            answers: Message = {}
            for key, question in result["inputRequests"].items():
                reply.asked.append(question)
                answers[key] = self.answering(question["method"], question.get("params", {}))
            more = {"inputResponses": answers}
            if "requestState" in result:
                more["requestState"] = result["requestState"]
        return reply

    async def _round(self, reply: Reply, method: str, params: Message, meta: Message) -> None:
        body = orjson.dumps(modern_message(method, params, next(iter(self._ids)), meta))
        headers = {k: v for k, v in modern_headers(method, params).items() if v} | self.running.bearer(self.token)
        answer = await self.running.http.post(self.path, content=body, headers=headers)
        if answer.headers["content-type"].startswith("application/json"):
            reply.message = answer.json()
            return
        heard = [orjson.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        reply.told += heard[:-1]
        reply.message = heard[-1]

    async def give_up(self, method: str, params: Message, when: Callable[[], Awaitable[None]]) -> None:
        """A request that is cancelled when `when` returns."""
        call = asyncio.create_task(self.ask(method, params))
        await when()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def hearing(self, *uris: str, lists: bool = False) -> AsyncGenerator[Heard]:
        """The stream on which these resources' updates, or list changes, are told."""
        wanted: Message = {"resourceSubscriptions": list(uris)} if uris else {}
        if lists:
            wanted["toolsListChanged"] = True
        params: Message = {"notifications": wanted}
        body = orjson.dumps(modern_message("subscriptions/listen", params, next(iter(self._ids))))
        headers = modern_headers("subscriptions/listen") | self.running.bearer(self.token)
        headers = {k: v for k, v in headers.items() if v}
        async with self.running.http.stream("POST", self.path, content=body, headers=headers) as answer:
            heard = Heard(answer)
            acknowledged = await heard.one("notifications/subscriptions/acknowledged")
            assert acknowledged["notifications"] == wanted
            yield heard


@dataclass
class Legacy:
    """A client of 2025-11-25; `open` shakes hands."""

    running: RunningHub
    path: str
    headers: dict[str, str]
    answering: Answering = answer_all
    _ids: Iterable[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    async def open(
        cls, running: RunningHub, path: str, token: str | None = None, answering: Answering = answer_all
    ) -> Legacy:
        """A session."""
        return cls(running, path, await running.session(path, token, ABLE), answering)

    async def ask(self, method: str, params: Message, *, progress: Any = None, level: str | None = None) -> Reply:
        """A request; what is asked on its stream is answered by a POST of its own."""
        if level is not None:
            await self._post("logging/setLevel", {"level": level})
        if progress is not None:
            params = params | {"_meta": {"progressToken": progress}}
        return await self._post(method, params)

    async def _post(self, method: str, params: Message, identifier: Any = None) -> Reply:
        identifier = next(iter(self._ids)) if identifier is None else identifier
        message = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}
        reply = Reply({})
        async with self.running.http.stream("POST", self.path, json=message, headers=self.headers) as answer:
            if answer.headers["content-type"].startswith("application/json"):
                reply.message = orjson.loads(await answer.aread())
                return reply
            heard = Heard(answer)
            while True:
                said = await heard.next()
                if "method" not in said:
                    reply.message = said
                elif "id" in said:
                    reply.asked.append({"method": said["method"], "params": said.get("params", {})})
                    result = self.answering(said["method"], said.get("params", {}))
                    body = {"jsonrpc": "2.0", "id": said["id"], "result": result}
                    await self.running.http.post(self.path, json=body, headers=self.headers)
                else:
                    reply.told.append(said)
                if reply.message:
                    assert reply.message["id"] == identifier
                    return reply

    async def give_up(self, method: str, params: Message, when: Callable[[], Awaitable[None]]) -> None:
        """A request that is cancelled when `when` returns."""
        call = asyncio.create_task(self._post(method, params, "given up"))
        await when()
        notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "given up"}}
        await self.running.http.post(self.path, json=notice, headers=self.headers)
        await call

    @contextlib.asynccontextmanager
    async def hearing(self, *uris: str, lists: bool = False) -> AsyncGenerator[Heard]:
        """The stream on which these resources' updates, and list changes, are told."""
        for uri in uris:
            assert (await self._post("resources/subscribe", {"uri": uri})).result == {}
        async with self.running.http.stream("GET", self.path, headers=self.headers) as answer:
            assert answer.status_code == 200
            # The comment at its beginning: from then on nothing is missed.
            heard = Heard(answer)
            yield heard
        for uri in uris:
            assert (await self._post("resources/unsubscribe", {"uri": uri})).result == {}

    async def close(self) -> None:
        """End the session."""
        await self.running.http.delete(self.path, headers=self.headers)


Caller = Modern | Legacy
