"""What the admin API answers, as the pages read it: lenient about absent fields, strict about their types.

One dataclass per noun of the API's description in `docs/architecture.md`. Unknown fields are ignored, so that
a newer hub does not break an older page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator


def as_text(value: object) -> str:
    """Null as the empty string, anything else as text."""
    return "" if value is None else str(value)


def as_list(value: object) -> object:
    """Null as the empty list."""
    return () if value is None else value


def as_dict(value: object) -> object:
    """Null as the empty object."""
    return {} if value is None else value


def as_number(value: object) -> object:
    """Null as nought."""
    return 0 if value is None else value


Text = Annotated[str, BeforeValidator(as_text)]
Words = Annotated[tuple[Text, ...], BeforeValidator(as_list)]
Object = Annotated[dict[str, Any], BeforeValidator(as_dict)]
Count = Annotated[int, BeforeValidator(as_number)]
Amount = Annotated[float, BeforeValidator(as_number)]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many definitions of each kind a server offers."""

    tool: Count = 0
    prompt: Count = 0
    resource: Count = 0
    template: Count = 0


@dataclass(frozen=True, slots=True)
class Exposed:
    """One definition and the name that callers see."""

    kind: Text
    name: Text
    exposed: Text = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the hub's own checks of a server say."""

    healthy: bool = True
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a server does towards one worker of the hub."""

    worker: int = 0
    breaker: Text = "closed"
    reason: Text = ""
    failures: int = 0
    retry_after: float = 0.0
    opened: int = 0
    running: int = 0
    queued: int = 0
    refused: int = 0
    check: Checked | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A registered server with its health."""

    name: Text
    title: Text = ""
    description: Text = ""
    kind: Text = ""
    address: Text = ""
    era: Text = ""
    eras: Words = ()
    state: Text = "new"
    reason: Text = ""
    enabled: bool = True
    internal: bool = False
    version: Text = ""
    replicas: Words = ()
    canary: Text = ""
    rollout: Object = field(default_factory=dict[str, Any])
    counts: Annotated[Counts, BeforeValidator(as_dict)] = field(default_factory=Counts)
    discovered: datetime | None = None
    changed: datetime | None = None
    exposed: Annotated[tuple[Exposed, ...], BeforeValidator(as_list)] = ()
    check_arguments: bool = True
    deadlines: Annotated[dict[str, float], BeforeValidator(as_dict)] = field(default_factory=dict[str, float])
    concurrency: Annotated[dict[str, float], BeforeValidator(as_dict)] = field(default_factory=dict[str, float])
    vitals: Annotated[tuple[Vitals, ...], BeforeValidator(as_list)] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """One tool, prompt, resource or template as the server gave it."""

    kind: Text
    name: Text
    era: Text = ""
    exposed: Text = ""
    digest: Text = ""
    definition: Object = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Looked:
    """One row of an examination: a step that found nothing, or a finding, which has an owner."""

    name: Text
    detail: Text = ""
    hint: Text = ""
    owner: Text = ""
    means: Text = ""
    advice: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; `token` is filled only in the answer that creates it."""

    id: Text
    name: Text
    prefix: Text = ""
    scopes: Words = ()
    kind: Text = ""
    on_behalf_of: Text = ""
    created: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None
    last_used: datetime | None = None
    token: Text = ""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One counter of a limit."""

    whose: Text = ""
    kind: Text = ""
    used: Amount = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on calls, with those who used most of it."""

    name: Text
    principal: Text = ""
    team: Text = ""
    server: Text = ""
    tool: Text = ""
    rate: Text = ""
    burst: Text = ""
    quota: Text = ""
    concurrent: Text = ""
    contact: Text = ""
    usage: Annotated[tuple[LimitUse, ...], BeforeValidator(as_list)] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """How a version did; seconds, per cent."""

    calls: Count = 0
    errors: Count = 0
    error_rate: Amount = 0
    p50: Amount = 0
    p95: Amount = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One side of a roll-out."""

    version: Text = ""
    address: Text = ""
    state: Text = "new"
    reason: Text = ""
    place: Text = ""
    figures: Annotated[Figures, BeforeValidator(as_dict)] = field(default_factory=Figures)


@dataclass(frozen=True, slots=True)
class RolloutEnd:
    """How the last roll-out ended."""

    outcome: Text = ""
    reason: Text = ""
    at: datetime | None = None
    version: Text = ""
    address: Text = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Both versions of a server."""

    server: Text
    stable: Version
    canary: Version | None = None
    window: Count = 0
    rules: Object = field(default_factory=dict[str, Any])
    started: datetime | None = None
    last: RolloutEnd | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A served model name."""

    name: Text
    kind: Text = "chat"
    description: Text = ""
    url: Text = ""
    remote_name: Text = ""
    native_tools: bool | None = None
    internal: bool = False
    enabled: bool = True
    state: Text = "new"
    reason: Text = ""
    facts: Object = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: the parts of its manifest that people look at, and its last run."""

    name: Text
    title: Text = ""
    description: Text = ""
    model: Text = ""
    tools: Annotated[tuple[Any, ...], BeforeValidator(as_list)] = ()
    limits: Object = field(default_factory=dict[str, Any])
    sandbox: Any = None
    enabled: bool = True
    bundled: bool = False
    last_run: Any = None
    manifest: Any = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run has used."""

    steps: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One journalled unit of a run: a request to a model or a tool, and what came back."""

    number: Count
    kind: Text = ""
    name: Text = ""
    started: datetime | None = None
    milliseconds: Amount = 0
    outcome: Text = ""
    request: Any = None
    response: Any = None


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of an agent."""

    id: Text
    agent: Text = ""
    state: Text = ""
    subject: Text = ""
    on_behalf_of: Text = ""
    trace: Text = ""
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    input: Any = None
    output: Any = None
    error: Any = None
    usage: Annotated[Usage, BeforeValidator(as_dict)] = field(default_factory=Usage)
    steps: Annotated[tuple[Step, ...], BeforeValidator(as_list)] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the audit."""

    segment: Text = ""
    number: Count = 0
    at: datetime | None = None
    event: Text = ""
    subject: Text = ""
    on_behalf_of: Text = ""
    server: Text = ""
    target: Text = ""
    outcome: Text = ""
    milliseconds: Amount = 0
    trace: Text = ""
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Chain:
    """What verifying the audit's hash chain found."""

    ok: bool
    segments: Count = 0
    records: Count = 0
    fault: Any = None


@dataclass(frozen=True, slots=True)
class Line:
    """One log line."""

    at: Text = ""
    source: Text = ""
    level: Text = ""
    message: Text = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of what applying a declaration would change, or has changed."""

    action: Text
    kind: Text = ""
    name: Text = ""
    diff: Any = None


@dataclass(frozen=True, slots=True)
class Collection:
    """A curated set of exposed names with its own endpoint."""

    name: Text
    title: Text = ""
    description: Text = ""
    members: Annotated[tuple[Any, ...], BeforeValidator(as_list)] = ()
    mode: Text = "all"
    pinned: Annotated[tuple[Any, ...], BeforeValidator(as_list)] = ()
