"""How a server greets in both eras, whether it means what it says, and what it lists: one conversation."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from hub.doctor import definitions
from hub.doctor.checks import Finding, found
from hub.doctor.definitions import Listed, Reading
from hub.doctor.wire import Heard, Line
from hub.upstream import jsonrpc
from hub.upstream.address import Era, Facts, Wanted
from hub.upstream.legacy_http import VERSIONS
from hub.upstream.modern_http import META, VERSION


@dataclass(slots=True)
class Greeted:
    """What came back to the greetings; either is None where it was not sent."""

    discover: Heard | None = None
    initialize: Heard | None = None
    facts: dict[Era, Facts] = field(default_factory=dict[Era, Facts])
    session: bytes | None = None
    version: str = ""

    @property
    def first(self) -> Heard:
        """The answer that says most of what stands there."""
        both = [one for one in (self.initialize, self.discover) if one is not None]
        return next((one for one in both if one.message), both[0])


async def greet(line: Line, wanted: Wanted) -> Greeted:
    """Greet in the eras that were declared."""
    told = Greeted()
    if wanted != "legacy":
        told.discover = heard = await line.modern("server/discover")
        result = heard.result
        versions: Any = result.get("supportedVersions") if result is not None else None
        if result is not None and isinstance(versions, list) and VERSION in versions:
            info = jsonrpc.mapping(jsonrpc.mapping(result.get("_meta")).get(META + "serverInfo"))
            told.facts["modern"] = Facts(jsonrpc.mapping(result.get("capabilities")), info)
        if heard.trouble is not None:
            return told  # an outage is the same in both eras
    if wanted != "modern" or "modern" not in told.facts:
        told.initialize = heard = await line.initialize()
        result = heard.result
        told.session = heard.headers.get(b"mcp-session-id")
        if result is not None:
            told.version = str(result.get("protocolVersion"))
            if told.version in VERSIONS:
                info = jsonrpc.mapping(result.get("serverInfo"))
                told.facts["legacy"] = Facts(jsonrpc.mapping(result.get("capabilities")), info)
    return told


def spoken(told: Greeted, wanted: Wanted) -> list[Finding]:
    """All findings about the greetings themselves."""
    discover, initialize = told.discover, told.initialize
    findings = [
        found("wrong-id", f"Asked as {heard.identifier!r}, answered {heard.message.get('id')!r}")
        for heard in (discover, initialize)
        if heard is not None and heard.result is not None and not _same(heard.message.get("id"), heard.identifier)
    ]
    if discover is not None and "modern" not in told.facts:
        findings += _of_discover(discover, told)
    if initialize is not None and initialize.result is not None and "legacy" not in told.facts:
        if told.version == VERSION:
            findings.append(found("era-confusing", f"It answers initialize with {VERSION}, which has no initialize"))
        elif "modern" not in told.facts:
            findings.append(found("unknown-version", f"It answers initialize with {told.version[:60]!r}"))
    if not told.facts and not findings and initialize is not None and initialize.error[0]:
        code, said = initialize.error
        findings.append(found("initialize-refused", f"{code}: {said}"))
    if wanted in ("modern", "legacy") and told.facts and wanted not in told.facts:
        findings.append(found("era-unsupported", f"Declared {wanted}, it speaks {', '.join(told.facts)}"))
    if len(told.facts) == 2:
        eras = {
            era: frozenset(facts.capabilities) & {"tools", "prompts", "resources"} for era, facts in told.facts.items()
        }
        if eras["modern"] != eras["legacy"]:
            said = "; ".join(f"{era}: {', '.join(sorted(names)) or 'nothing'}" for era, names in eras.items())
            findings.append(found("era-confusing", f"What it can do differs between its eras: {said}"))
    return findings


def _of_discover(discover: Heard, told: Greeted) -> list[Finding]:
    """What is odd about a server that does not speak the modern era."""
    findings: list[Finding] = []
    if discover.result is not None:
        versions: Any = discover.result.get("supportedVersions")
        if not isinstance(versions, list):
            findings.append(found("era-confusing", "It answers server/discover without supportedVersions"))
        elif "legacy" not in told.facts and not told.version:
            findings.append(found("unknown-version", f"It supports {str(versions)[:200]}"))  # pyright: ignore[reportUnknownArgumentType]
    elif discover.headers.get(b"mcp-session-id") is not None and discover.status >= 400:
        findings.append(found("session-leak", f"HTTP {discover.status} to server/discover, with a new Mcp-Session-Id"))
    return findings


async def converse(line: Line, told: Greeted) -> AsyncGenerator[Finding | Listed]:
    """Confirm the session, read every list of every era, and end the session."""
    leaked = told.discover.headers.get(b"mcp-session-id") if told.discover is not None else None
    if leaked is not None:
        await line.delete(leaked, VERSIONS[0])
    if "legacy" in told.facts:
        heard = await line.legacy(told.session, told.version, "notifications/initialized", {})
        if _lost(heard, told):
            yield found("session-lost-at-once", f"HTTP {heard.status} to the session's first message")
            return
        if heard.status >= 400:
            yield found("notification-refused", f"HTTP {heard.status} to notifications/initialized")
    for era, facts in told.facts.items():
        listed = Listed(facts)
        lost = False
        for kind, method, member in definitions.lists_of(facts.capabilities):
            reading = Reading(method, member, era)
            while True:
                heard = await _page(line, told, era, reading)
                if era == "legacy" and _lost(heard, told):
                    yield found("session-lost-at-once", f"HTTP {heard.status} to {method}, in the session just opened")
                    lost = True
                    break
                if era == "modern" and _denied(heard):
                    why = heard.error[1] or f"HTTP {heard.status}"
                    yield found("era-confusing", f"It claims to speak {VERSION}, and answers {method} with: {why}")
                    lost = True
                    break
                if not reading.add(heard):
                    break
            for finding in reading.findings:
                yield finding
            listed.bodies[kind] = tuple(reading.bodies)
            if lost:
                break
        if lost:
            continue
        for finding in definitions.judged(era, listed):
            yield finding
        yield listed


async def end(line: Line, told: Greeted) -> None:
    """Close the session that the greeting opened."""
    if told.session is not None:
        await line.delete(told.session, told.version or VERSIONS[0])


async def _page(line: Line, told: Greeted, era: Era, reading: Reading) -> Heard:
    params: dict[str, Any] = {} if reading.cursor is None else {"cursor": reading.cursor}
    if era == "modern":
        return await line.modern(reading.method, params)
    return await line.legacy(told.session, told.version, reading.method, params)


def _lost(heard: Heard, told: Greeted) -> bool:
    if told.session is None or heard.status not in (400, 404):
        return False
    return heard.status == 404 or "session" in heard.text.lower() or "not initialized" in heard.text.lower()


def _denied(heard: Heard) -> bool:
    """Whether a modern request was refused for its revision, after the greeting took it."""
    return heard.error[0] in (-32022, -32600, -32020) or (
        heard.status in (400, 404) and "session" in heard.text.lower()
    )


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
