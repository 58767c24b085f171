"""The matrix: every feature, in all four cells of client era and server era. `docs/eras.md` is written from it.

A feature is a check that drives one client against one server; `test_matrix.py` runs each in every cell, over HTTP
and stdio, on the three kinds of endpoint. What a cell does to carry the feature is said here, in the words of the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.eras.callers import Caller
from tests.support.everything import WATCHED
from tests.support.hub import Era, RunningHub

ERAS: tuple[Era, ...] = ("legacy", "modern")
TRANSPORTS = ("http", "stdio")
ENDPOINTS = {"single": "/mcp/s/{server}", "collection": "/mcp/c/mixed", "aggregate": "/mcp"}


@dataclass(frozen=True)
class Place:
    """One client at one endpoint, and the server that it wants there."""

    running: RunningHub
    caller: Caller
    era: Era
    server: str
    key: str

    def exposed(self, kind: str, name: str) -> str:
        """How the endpoint calls something of the server's: many servers here have the same names."""
        listed = self.running.hub.snapshots.current.views[self.key].listed
        for (era, its_kind), targets in listed.items():
            if era == self.era and its_kind == kind:
                for target in targets:
                    if (target.server, target.name) == (self.server, name):
                        return target.exposed
        raise AssertionError(f"{self.server} has no {kind} {name} at {self.key or '/mcp'}")

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> Any:
        """A tool's call."""
        params = {"name": self.exposed("tool", tool), "arguments": arguments or {}}
        return await self.caller.ask("tools/call", params, **more)


Check = Callable[[Place], Awaitable[None]]


@dataclass(frozen=True)
class Feature:
    """One row: its title, what carries it where the eras differ, and the check."""

    title: str
    up: str
    """A modern client, a legacy server."""
    down: str
    """A legacy client, a modern server."""
    check: Check


FEATURES: dict[str, Feature] = {}


def feature(title: str, up: str, down: str) -> Callable[[Check], Check]:
    """Put a check into the matrix."""

    def put(check: Check) -> Check:
        FEATURES[check.__name__] = Feature(title, up, down, check)
        return check

    return put


SAME = "as it is"


@feature("Tools", "result gains `resultType`", "result loses what is new; structured content only as an object")
async def tools(at: Place) -> None:
    reply = await at.call("echo", {"text": "hi"})
    assert reply.result["structuredContent"] == {"text": "hi", "server": at.server}
    assert (reply.result.get("resultType") == "complete") == (at.era == "modern")
    assert (await at.call("test_error_handling")).result["isError"]


@feature("Prompts", "result gains `resultType`", "result loses `resultType`")
async def prompts(at: Place) -> None:
    arguments = {"arg1": "one", "arg2": "two"}
    params = {"name": at.exposed("prompt", "test_prompt_with_arguments"), "arguments": arguments}
    reply = await at.caller.ask("prompts/get", params)
    assert "arg1='one'" in reply.result["messages"][0]["content"]["text"]


@feature("Resources", "`ttlMs: 0`, private", "without `ttlMs` and `cacheScope`")
async def resources(at: Place) -> None:
    reply = await at.caller.ask("resources/read", {"uri": at.exposed("resource", "test://static-text")})
    assert "static text" in reply.result["contents"][0]["text"]
    assert ("ttlMs" in reply.result) == (at.era == "modern")


@feature("Resource templates", SAME, SAME)
async def templates(at: Place) -> None:
    template = at.exposed("template", "test://template/{id}/data")
    reply = await at.caller.ask("resources/read", {"uri": template.replace("{id}", "7")})
    assert "Data for ID: 7" in reply.result["contents"][0]["text"]


@feature("Completion", SAME, SAME)
async def completion(at: Place) -> None:
    reference = {"type": "ref/prompt", "name": at.exposed("prompt", "test_prompt_with_arguments")}
    params = {"ref": reference, "argument": {"name": "arg1", "value": "pa"}}
    assert (await at.caller.ask("completion/complete", params)).result["completion"]["values"] == ["paris"]


@feature("Progress", "under a token of the hub's own, told under the client's", SAME)
async def progress(at: Place) -> None:
    reply = await at.call("test_tool_with_progress", progress="mine")
    told = reply.heard("notifications/progress")
    assert [(one["progressToken"], one["progress"]) for one in told] == [("mine", 0), ("mine", 50), ("mine", 100)]


@feature(
    "Cancellation",
    "closing the request becomes `notifications/cancelled`; a call at rest goes on",
    "`notifications/cancelled` closes the request",
)
async def cancellation(at: Place) -> None:
    async def state(wanted: str) -> None:
        async with asyncio.timeout(20):
            while (await at.call("waited")).text != wanted:
                await asyncio.sleep(0.01)

    async def started() -> None:
        await state("started")

    assert (await at.call("waited", {"anew": True})).text == "new"
    params: dict[str, Any] = {"name": at.exposed("tool", "wait"), "arguments": {}}
    await at.caller.give_up("tools/call", params, started)
    await state("cancelled")


@feature(
    "Logging",
    "`_meta.logLevel` becomes `logging/setLevel`, and filters what comes back",
    "the level of `logging/setLevel` goes with every call as `_meta.logLevel`",
)
async def logging(at: Place) -> None:
    if at.era == "modern":
        assert (await at.call("test_tool_with_logging")).heard("notifications/message") == []
    told = (await at.call("test_tool_with_logging", level="info")).heard("notifications/message")
    assert told and {one["level"] for one in told} == {"info"}


@feature("List changes", "the hub looks first, then tells on `subscriptions/listen`", "on the session's stream")
async def list_changes(at: Place) -> None:
    async with at.caller.hearing(lists=True) as heard:
        await at.call("test_trigger_tool_change")
        await heard.one("notifications/tools/list_changed")


@feature(
    "Subscriptions",
    "`resourceSubscriptions` become `resources/subscribe` in one session of the hub's",
    "`resources/subscribe` becomes part of one `subscriptions/listen` of the hub's",
)
async def subscriptions(at: Place) -> None:
    uri = at.exposed("resource", WATCHED)
    async with at.caller.hearing(uri) as heard:
        await at.call("touch", {"uri": WATCHED})
        assert (await heard.one("notifications/resources/updated"))["uri"] == uri


@feature(
    "Elicitation (form)",
    "`input_required` with a sealed state, while the server's stream stays open",
    "a request on the stream of the client's call",
)
async def elicitation_form(at: Place) -> None:
    reply = await at.call("test_elicitation", {"message": "Who are you?"})
    (asked,) = reply.asked
    assert (asked["method"], asked["params"]["message"]) == ("elicitation/create", "Who are you?")
    assert "accept" in reply.text and "Who are you?" in reply.text


@feature("Elicitation (URL)", "the same, without `elicitationId`", "the same, with an `elicitationId`")
async def elicitation_url(at: Place) -> None:
    reply = await at.call("test_elicitation_url")
    (asked,) = reply.asked
    assert (asked["params"]["mode"], asked["params"]["url"]) == ("url", "https://example.com/connect")
    assert ("elicitationId" in asked["params"]) == (at.era == "legacy")
    assert "action=accept" in reply.text


@feature("Sampling", "as elicitation", "as elicitation")
async def sampling(at: Place) -> None:
    reply = await at.call("test_input_required_result_sampling")
    assert [one["method"] for one in reply.asked] == ["sampling/createMessage"]
    assert "Paris" in reply.text


@feature("Roots", "as elicitation", "as elicitation")
async def roots(at: Place) -> None:
    reply = await at.call("test_input_required_result_list_roots")
    assert [one["method"] for one in reply.asked] == ["roots/list"]
    assert "file:///work" in reply.text


def cells() -> list[Any]:
    """Every test of the matrix: feature, client era, server era, transport."""
    return [
        pytest.param(name, client, server, transport, id=f"{name}-{client}-{server}-{transport}")
        for name in FEATURES
        for client in ERAS
        for server in ERAS
        for transport in TRANSPORTS
    ]
