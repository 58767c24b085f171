"""A hundred callers at once, of both eras, at servers of both: nothing of one ever reaches another.

Every progress message, log line, question and answer carries the nonce of the call that it belongs to.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from random import Random

import httpx
import orjson
import pytest

from tests.eras.callers import Caller, Legacy, Message, Modern, Reply
from tests.eras.matrix import ERAS, TRANSPORTS, Place
from tests.support.hub import Era, RunningHub

pytestmark = pytest.mark.anyio

CALLERS = 100
PRINCIPALS = 10
"""Ten callers share each key: what separates two clients of one person is their requests alone."""

NONCE = re.compile(r"nonce-[0-9a-f]{12}")


@dataclass
class One:
    """One caller, and what it met."""

    caller: Caller
    era: Era
    server: str
    nonce: str
    reply: Reply | None = None

    async def call(self, running: RunningHub) -> None:
        """Its call, from the first question to the last answer."""
        at = Place(running, self.caller, self.era, self.server, "")
        params: Message = {"name": at.exposed("tool", "nonce"), "arguments": {"nonce": self.nonce}}
        self.reply = await self.caller.ask("tools/call", params, progress=self.nonce, level="info")


async def test_nothing_of_a_caller_reaches_another(hub: RunningHub) -> None:
    random = Random(20261125)
    tokens = [await hub.key(f"nonce-{number}", ["call"]) for number in range(PRINCIPALS)]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=hub.url, timeout=60, limits=limits) as http, asyncio.timeout(120):
        running = replace(hub, http=http)
        everyone: list[One] = []
        for number in range(CALLERS):
            cell = (ERAS[number % 2], f"{TRANSPORTS[number // 4 % 2]}-{ERAS[number // 2 % 2]}")
            one = await joined(running, *cell, f"nonce-{random.getrandbits(48):012x}", tokens[number % PRINCIPALS])
            everyone.append(one)
        # What asks over stdio is learned from its first question; see docs/eras.md.
        await (await joined(running, "legacy", "stdio-legacy", "nonce-000000000000", tokens[0])).call(running)
        random.shuffle(everyone)
        await asyncio.gather(*(one.call(running) for one in everyone))
        for one in everyone:
            check(one)
        await check_streams(running, everyone)
    assert len(hub.hub.bridge.parks) == 0


async def joined(running: RunningHub, era: Era, server: str, nonce: str, token: str) -> One:
    """A caller that answers every question with its own nonce."""

    def answer(_method: str, _params: Message) -> Message:
        return {"action": "accept", "content": {"username": nonce}}

    if era == "modern":
        return One(Modern(running, "/mcp", token, answer), era, server, nonce)
    return One(await Legacy.open(running, "/mcp", token, answer), era, server, nonce)


def check(one: One) -> None:
    """It met its own nonce in every way there is, and no other."""
    assert one.reply is not None
    whole = orjson.dumps([one.reply.message, one.reply.told, one.reply.asked]).decode()
    assert set(NONCE.findall(whole)) == {one.nonce}, (one.era, one.server)
    assert one.reply.text.count(one.nonce) == 2, "what it asked for, and what it answered"
    assert [question["params"]["message"] for question in one.reply.asked] == [one.nonce]
    assert {told["message"] for told in one.reply.heard("notifications/progress")} == {one.nonce}
    if one.server.startswith("http"):
        # Over stdio a line that could be two callers' is shown to neither.
        assert {told["data"] for told in one.reply.heard("notifications/message")} == {one.nonce}


async def check_streams(running: RunningHub, everyone: list[One]) -> None:
    """What lies on the sessions' own streams up to a change that all are told of holds no nonce of another."""
    sessions = [(one, one.caller) for one in everyone if isinstance(one.caller, Legacy)]
    async with AsyncExitStack() as stack:
        streams = [(one, await stack.enter_async_context(caller.hearing(lists=True))) for one, caller in sessions]
        first, caller = sessions[0]
        at = Place(running, caller, "legacy", first.server, "")
        await at.call("test_trigger_tool_change")
        for one, heard in streams:
            while (message := await heard.next())["method"] != "notifications/tools/list_changed":
                assert set(NONCE.findall(orjson.dumps(message).decode())) <= {one.nonce}
