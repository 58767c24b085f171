"""The examination: steps in the order in which their failures explain each other, each bounded, told as they end.

Whoever calls has been admitted. What is sent is what the hub would send anyway, with the declared credentials to the
declared address only; nothing is called, stored or changed. A child that is in its pause between failures is started.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.to_thread

from hub.catalog.manifest import ServerSpec
from hub.catalog.runner_client import RunnerClient
from hub.catalog.service import Catalog
from hub.doctor import answer, authorization, connection, declaration, openapi, process, protocol, streams
from hub.doctor.checks import Finding, found
from hub.doctor.definitions import Listed, judged
from hub.doctor.protocol import Greeted
from hub.doctor.wire import Line
from hub.errors import HubError, Unavailable
from hub.net import GuardedClient, tls_context
from hub.upstream.address import Address, Wanted
from hub.upstream.probe import survey
from hub.upstream.terms import Bounds, Deadlines, Terms

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 8.0
CHILD_SECONDS = 25.0
"""For a process to start and answer; a package that is fetched for the first time may take longer, which is said."""

WHOLE_SECONDS = 60.0
"""Beside what the caller asks to wait on a silent stream."""

NOISE = "stdout carries something other than JSON-RPC"

Logged = Callable[[str, str], Awaitable[list[str]]]
"""The last log lines of a source since a moment."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A step that found nothing, and what it saw."""

    name: str
    seen: str

    def row(self) -> dict[str, Any]:
        """As the admin API tells it."""
        return {"name": self.name, "ok": True, "advice": False, "detail": self.seen, "hint": ""}


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that is under way."""

    name: str

    def row(self) -> dict[str, Any]:
        """As the admin API tells it."""
        return {"begun": self.name}


Told = Passed | Begun | Finding


@dataclass(slots=True)
class Case:
    """One server as it is examined: where, as what, and what was found so far."""

    name: str
    spec: ServerSpec | None
    address: Address
    wanted: Wanted
    child: str = ""
    """The runner's name of its process; empty without one."""
    codes: set[str] = field(default_factory=set[str])
    steps: dict[str, str] = field(default_factory=dict[str, str])
    stopped: bool = False

    def once(self, finding: Finding) -> bool:
        """Whether this is the first of its kind; both eras often have the same fault."""
        new = finding.check.code not in self.codes
        self.codes.add(finding.check.code)
        return new


class Doctor:
    """Examines servers. Stateless; made where it is needed."""

    def __init__(self, catalog: Catalog, runner: RunnerClient, logged: Logged) -> None:
        self._catalog = catalog
        self._runner = runner
        self._logged = logged

    async def registered(self, name: str, idle_seconds: float) -> AsyncGenerator[Told]:
        """Examine a server of the catalog. Raises `NotFound`."""
        shown = self._catalog.show(name)
        reason = f" ({shown['reason']})" if shown["reason"] else ""
        spec, address = self._catalog.declared(name)
        case = Case(name, spec, address, shown["era"])
        is_child = bool(spec and spec.is_child) or shown["kind"] in ("stdio", "package", "openapi")
        if is_child or "/s/" in address.url and address.socket:
            case.child = name
        yield Passed("registered", f"{shown['kind']} {shown['address']}: {shown['state']}{reason}")
        async for told in self._bounded(case, idle_seconds):
            yield told

    async def declared(self, spec: ServerSpec, idle_seconds: float) -> AsyncGenerator[Told]:
        """Examine a server that is not in the catalog, as it is declared; a child of it lives only so long."""
        async with AsyncExitStack() as stack:
            try:
                address = await stack.enter_async_context(self._catalog.reached(spec))
            except Unavailable as error:
                for finding in declaration.look(spec):
                    yield finding
                yield _unstartable(error)
                return
            case = Case(spec.name, spec, address, spec.era)
            if spec.is_child:
                case.child = address.url.split("/")[4]
            async for told in self._bounded(case, idle_seconds):
                yield told

    async def _bounded(self, case: Case, idle_seconds: float) -> AsyncGenerator[Told]:
        """The steps, for as long as all of them may take together."""
        until = time.monotonic() + WHOLE_SECONDS + idle_seconds
        secrets = declaration.secrets_of(case.spec) if case.spec is not None else ()
        async for told in self._steps(case, idle_seconds):
            if isinstance(told, Finding) and not case.once(told):
                continue
            yield _without(told, secrets)
            if time.monotonic() > until:
                yield Passed("time", "Stopped here: the rest would have taken too long.")
                return

    async def _steps(self, case: Case, idle_seconds: float) -> AsyncGenerator[Told]:
        if case.spec is not None:
            yield Begun("declaration")
            findings = list(declaration.look(case.spec))
            for finding in findings:
                yield finding
            if not findings:
                yield Passed("declaration", "nothing odd in address and credentials")
        http = GuardedClient(tls_context())
        try:
            if case.spec is not None and case.spec.openapi:
                yield Begun("description")
                count = 0
                async for finding in openapi.look(case.spec, http):
                    count += 1
                    yield finding
                if not count:
                    yield Passed("description", "it can be read")
            if not case.child:
                yield Begun("connection")
                if case.address.socket:
                    yield Passed("connection", "a socket on this machine")
                else:
                    seen, fault = await connection.look(case.address.url)
                    if fault is not None:
                        yield fault
                        if fault.check.code == "tcp-refused" and declaration.means_itself(case.address.url):
                            yield found("loopback-in-container", f"The URL is {case.address.url.partition('?')[0]}.")
                        return
                    yield Passed("connection", seen)
            async for told in self._conversation(case, http, idle_seconds):
                yield told
        finally:
            await http.close()

    async def _conversation(self, case: Case, http: GuardedClient, idle_seconds: float) -> AsyncGenerator[Told]:
        seconds = CHILD_SECONDS if case.child else ANSWER_SECONDS
        line = Line(case.address, Bounds(CONNECT_SECONDS, seconds))
        greeted: Greeted | None = None
        began = _moment()
        try:
            yield Begun("process" if case.child else "answer")
            if case.child:
                await self._wake(case.child)
            greeted = await protocol.greet(line, case.wanted)
            if case.child:
                async for told in self._process(case, greeted, began):
                    yield told
                if case.stopped:
                    return
            first = greeted.first
            fault = None if case.child else await answer.look(line, first)
            for finding in [fault] if fault else answer.form(first, bool(case.address.socket)):
                yield finding
                case.stopped |= finding is fault or finding.check.code == "odd-encoding"
            if first.status == 401 and not first.result:
                yield Begun("authorization")
                async for finding in authorization.look(case.address.url, first, bool(case.address.headers), http):
                    yield finding
                return
            if case.stopped:
                return
            if not case.child:
                yield Passed("answer", f"HTTP {first.status} after {first.seconds * 1000:.0f} ms")
            async for told in self._spoken(case, line, greeted, idle_seconds):
                yield told
            if case.child:
                async for told in self._afterwards(case, began):
                    yield told
        finally:
            with anyio.move_on_after(2, shield=True):
                if greeted is not None:
                    await protocol.end(line, greeted)
            line.close()

    async def _spoken(self, case: Case, line: Line, greeted: Greeted, idle_seconds: float) -> AsyncGenerator[Told]:
        """Eras, session, lists, streams."""
        yield Begun("protocol")
        for finding in protocol.spoken(greeted, case.wanted):
            yield finding
        if not greeted.facts:
            async for told in self._old(case, greeted):
                yield told
            return
        eras = ", ".join(greeted.facts)
        yield Passed("protocol", f"it speaks {eras}{f' ({greeted.version})' if greeted.version else ''}")
        yield Begun("definitions")
        counted: list[str] = []
        async for told in protocol.converse(line, greeted):
            if isinstance(told, Listed):
                counted.append(told.counted())
            else:
                yield told
        yield Passed("definitions", "; ".join(dict.fromkeys(counted)) or "not all could be read")
        if case.child:
            return
        yield Begun("streams")
        count, began = 0, time.monotonic()
        async for finding in _streams(line, greeted, idle_seconds):
            count += 1
            yield finding
        if not count:
            lived = time.monotonic() - began >= idle_seconds
            said = f"nothing was held back or cut in {idle_seconds:.0f} s" if lived else "it has none that stays open"
            yield Passed("streams", said)

    async def _old(self, case: Case, greeted: Greeted) -> AsyncGenerator[Told]:
        """A server of the transport of 2024-11-05, or one that nothing more can be asked."""
        if greeted.first.message:
            return
        terms = Terms(Deadlines(CONNECT_SECONDS, ANSWER_SECONDS))
        try:
            seen = await survey(case.address, case.wanted, terms)
        except HubError as error:
            yield found("refused", error.message)
            return
        for era, facts in seen.facts.items():
            listed = Listed(facts, {kind: bodies for (one, kind), bodies in seen.definitions.items() if one == era})
            for finding in judged(era, listed):
                yield finding
            yield Passed("definitions", f"{listed.counted()}, over HTTP+SSE of 2024-11-05")

    async def _process(self, case: Case, greeted: Greeted, began: str) -> AsyncGenerator[Told]:
        """Whether the process started and answered."""
        first = greeted.first
        if first.trouble is not None:
            try:
                states = {str(one["name"]): str(one["state"]) for one in await self._runner.children()}
            except HubError as error:
                yield found("runner-down", error.message)
                case.stopped = True
                return
            words = "\n".join(f"| {line}" for line in await self._logged(case.child, began))
            yield found(
                "mute", f"{states.get(case.child, 'unknown')}, no answer in {first.seconds:.0f} s\n{words}".strip()
            )
            case.stopped = True
            return
        if first.status >= 500 and not first.result:
            message, stderr = process.refusal(first.message)
            exists = await anyio.to_thread.run_sync(_existing, stderr)
            yield _refused_start(message, stderr, exists.__contains__)
            async for told in self._noise(case, began):
                yield told
            case.stopped = True
            return
        async for told in self._noise(case, began):
            yield told

    async def _noise(self, case: Case, began: str) -> AsyncGenerator[Told]:
        noise = [line for line in await self._logged(case.child, began) if NOISE in line]
        if noise:
            yield found("stdout-noise", noise[-1].rpartition("): ")[2][:300])

    async def _afterwards(self, case: Case, began: str) -> AsyncGenerator[Told]:
        """Whether the process outlived the conversation."""
        await anyio.sleep(0.5)
        children = {str(one["name"]): one for one in await self._runner.children()}
        state = children.get(case.child)
        if state is None:
            return
        seen = f"{state['state']}, {len(state['pids'])} running, {state['restarts']} restarts"
        if state["restarts"] >= 2 or (state["restarts"] and not state["running"]):
            last = "\n".join(f"| {line}" for line in (await self._logged(case.child, began))[-process.LAST_LINES :])
            yield found("crash-loop", f"{seen}; {state['reason']}\n{last}".strip())
        else:
            yield Passed("process", seen)
        async for told in self._noise(case, began):
            yield told

    async def _wake(self, child: str) -> None:
        """A child in its pause between failures is started at once: its next failure is what is wanted."""
        try:
            children = await self._runner.children()
            if any(one["name"] == child and one["state"] == "backing-off" for one in children):
                await self._runner.restart(child)
        except HubError:
            return  # told by the next step


async def _streams(line: Line, greeted: Greeted, idle_seconds: float) -> AsyncGenerator[Finding]:
    modern = greeted.facts.get("modern")
    if modern is not None:
        async for finding in streams.look_modern(line, modern.capabilities, idle_seconds):
            yield finding
    elif "legacy" in greeted.facts:
        async for finding in streams.look_legacy(line, greeted.session, greeted.version, idle_seconds):
            yield finding


def _refused_start(message: str, stderr: str, exists: process.Exists) -> Finding:
    if "cannot be started" in message and "sandbox" in message.lower():
        return found("no-sandbox", message)
    if "did not answer initialize" in message:
        return found("mute", message)
    return process.judged(message, stderr, exists)


def _unstartable(error: HubError) -> Finding:
    """Why no process could even be wanted."""
    message = error.message
    if "npx" in message or "Node.js" in message:
        return found("runtime-missing", message)
    if "runner" in message.lower() and "cannot be reached" in message:
        return found("runner-down", message)
    if "installed" in message:
        return found("package-not-found", message)
    return found("crash-at-start", message)


def _without(told: Told, secrets: Iterable[str]) -> Told:
    """The same without what was declared in confidence: a server may say anything that it was sent."""
    if isinstance(told, Begun):
        return told
    seen = told.seen
    for secret in secrets:
        seen = seen.replace(secret, "[redacted]")
    return replace(told, seen=seen)


def _existing(stderr: str) -> frozenset[str]:
    """The paths in last words that are on this machine. Blocks."""
    words: Iterable[str] = (word.strip("'\"`:,()[].") for word in stderr.split())
    return frozenset(word for word in words if word.startswith("/") and os.path.exists(word))


def _moment() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 1))
