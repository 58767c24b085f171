"""The JSON of the admin API, both ways: docs/architecture.md in types. The OpenAPI description is made from these."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from hub.catalog.manifest import Argument, Strict
from hub.catalog.snapshot import Mode

State = Literal["new", "ready", "degraded", "down"]


class Shape(BaseModel):
    """An answer. More members may come; clients ignore what they do not know."""

    model_config = ConfigDict(extra="allow")


class Exposed(Shape):
    """A name that callers see, and what it leads to."""

    kind: Literal["tool", "prompt", "resource", "template"]
    name: str
    exposed: str


class Checked(Shape):
    """What the hub's own checks of a server say."""

    healthy: bool
    reason: str


class Vitals(Shape):
    """How a server does towards one worker."""

    worker: int
    breaker: Literal["closed", "open", "half-open"]
    reason: Annotated[str, Field(description="The last failure that callers met; empty after a success.")]
    failures: Annotated[int, Field(description="In a row.")]
    retry_after: Annotated[float, Field(description="Seconds until a call may try again.")]
    opened: Annotated[int, Field(description="Times that the breaker opened since this worker started.")]
    running: int
    queued: int
    refused: Annotated[int, Field(description="Calls that found no place since this worker started.")]
    check: Checked | None = None


class Server(Shape):
    """A registered server."""

    name: str
    title: str
    description: str
    kind: Literal["http", "stdio", "package", "openapi", "internal"]
    address: str
    era: Literal["auto", "modern", "legacy"]
    eras: list[str]
    state: State
    reason: str
    enabled: bool
    internal: bool
    counts: dict[str, int]
    discovered: datetime | None
    changed: datetime
    isolation: str
    check_arguments: bool = True
    sandbox: str
    secrets: Annotated[list[str], Field(description="Names of the sealed values; never the values.")]
    version: Annotated[str, Field(description="As declared, or as the server says.")]
    replicas: list[str]
    canary: Annotated[str | None, Field(description="The version that is tried out; see its roll-out.")] = None
    problems: Annotated[list[str], Field(description="Definitions that were left out, and why.")]
    changes: Annotated[list[str], Field(description="What the last change of its definitions was.")]
    deadlines: Annotated[dict[str, float], Field(description="Seconds in force: connect, list, call, idle, total.")]
    concurrency: Annotated[
        dict[str, float], Field(description="In force, per worker: calls at once, places to wait in, seconds of wait.")
    ]
    health: Annotated[
        dict[str, dict[str, float]],
        Field(
            description="In force: active (interval, timeout, passes, fails), passive (failures, pause, longest_pause)."
        ),
    ]
    exposed: list[Exposed] | None = None
    vitals: Annotated[
        list[Vitals] | None, Field(description="How it does now, one entry per worker; only where one server is shown.")
    ] = None


class VersionFigures(Shape):
    """How one version did within the window that it is judged by; seconds, per cent."""

    calls: int
    errors: int
    error_rate: float
    p50: float
    p95: float


class Version(Shape):
    """One side of a roll-out."""

    version: str
    address: str
    replicas: list[str]
    kind: str
    state: State
    reason: str
    counts: dict[str, int]
    eras: list[str]
    place: Annotated[str, Field(description="What its child and its figures are called.")]
    figures: VersionFigures


class RolloutEnd(Shape):
    """How the last roll-out ended, and what both versions did until then."""

    outcome: Literal["promoted", "rolled-back"]
    reason: Annotated[str, Field(description="Why the hub rolled it back; empty: by hand.")]
    at: datetime
    version: str
    address: str
    stable: VersionFigures
    canary: VersionFigures


class Rollout(Shape):
    """Both versions of a server."""

    server: str
    window: Annotated[int, Field(description="Seconds that the figures look back.")]
    stable: Version
    canary: Version | None
    rules: dict[str, Any] | None
    started: datetime | None
    last: RolloutEnd | None


class Servers(Shape):
    """All servers."""

    servers: list[Server]


class Definition(Shape):
    """What a server offers, as it said it."""

    era: str
    kind: str
    name: str
    exposed: str
    digest: str
    definition: dict[str, Any]


class Definitions(Shape):
    """All that a server offers."""

    definitions: list[Definition]


class DryRun(BaseModel):
    """Whether to only show what would happen."""

    model_config = ConfigDict(extra="ignore")

    dry_run: bool = False


class Removal(BaseModel):
    """How to remove a server."""

    release_names: Annotated[bool, Field(description="Let other servers take the names it was exposed under.")] = False


class Collection(Shape):
    """A curated set."""

    name: str
    title: str
    description: str
    members: list[str]
    mode: Mode
    pinned: list[str]
    client: str


class Collections(Shape):
    """All collections."""

    collections: list[Collection]


class CollectionBody(Strict):
    """A collection as put; its name stands in the path."""

    name: str | None = None
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    description: Annotated[str, StringConstraints(max_length=4_000)] = ""
    members: Annotated[list[Argument], Field(max_length=5_000)]
    mode: Mode = "all"
    pinned: Annotated[list[Argument], Field(max_length=50)] = Field(default_factory=list[str])
    client: Annotated[str, StringConstraints(max_length=100)] = ""


class Change(Shape):
    """One thing that `apply` does or would do."""

    action: Literal["create", "update", "none"]
    kind: Literal["server", "collection", "model", "limit", "canary"]
    name: str
    diff: dict[str, Any]


class Applied(Shape):
    """What was or would be changed."""

    changes: list[Change]
    applied: bool


class ClientConfig(BaseModel):
    """A client's server list: `mcpServers` (Claude, Cursor) or `servers` (VS Code)."""

    model_config = ConfigDict(extra="allow")


class Token(Shape):
    """A key, without its secret."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    teams: list[str]
    kind: str
    on_behalf_of: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None


class Tokens(Shape):
    """All keys."""

    tokens: list[Token]


class NewToken(Token):
    """A key that was just made; `token` is shown this once."""

    token: str


class TokenBody(Strict):
    """A key to be made."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    scopes: Annotated[list[Annotated[str, StringConstraints(max_length=300)]], Field(max_length=200)] | None = None
    expires_seconds: Annotated[int, Field(ge=1, le=10 * 366 * 86_400)] | None = None
    kind: Literal["service", "run", "person"] = "service"
    on_behalf_of: Annotated[str, StringConstraints(max_length=300)] = ""
    teams: Annotated[list[Annotated[str, StringConstraints(max_length=60)]], Field(max_length=20)] | None = None


class LimitUse(Shape):
    """One counter of a limit, and what is used of it."""

    whose: Annotated[str, Field(description="Whose it is; empty: all callers together.")]
    kind: Literal["rate", "quota", "slots"]
    used: float


class Limit(Shape):
    """A limit on calls."""

    name: str
    principal: str
    team: str
    server: str
    tool: str
    rate: str
    burst: int | None
    quota: str
    concurrent: int | None
    contact: str
    usage: Annotated[list[LimitUse], Field(description="Who used most, at most a hundred.")]


class Limits(Shape):
    """All limits."""

    limits: list[Limit]


class LimitBody(BaseModel):
    """A limit as put: the members of `LimitSpec`, but for the name, which stands in the path."""

    model_config = ConfigDict(extra="allow")


class LinkBody(Strict):
    """Whom a sign-in link is for."""

    subject: Annotated[str, StringConstraints(max_length=200, pattern=r"^person:.+$")] = "person:admin"


class Link(Shape):
    """A link that signs its holder in, once."""

    url: str
    expires: datetime


class Model(Shape):
    """A registered model."""

    name: str
    kind: Literal["chat", "embedding"]
    description: str
    url: str
    remote_name: str
    native_tools: bool
    internal: bool
    enabled: bool
    state: State
    reason: str
    facts: dict[str, Any]


class ModelList(Shape):
    """All models."""

    models: list[Model]


class ModelBody(BaseModel):
    """A model as put: the members of `ModelSpec`, checked by the model registry."""

    model_config = ConfigDict(extra="allow")

    url: str


class AuditQuery(BaseModel):
    """What to look for in the audit."""

    model_config = ConfigDict(extra="ignore")

    subject: str = ""
    event: str = ""
    server: str = ""
    target: str = ""
    outcome: str = ""
    trace: str = ""
    after: datetime | None = None
    before: datetime | None = None
    cursor: Annotated[str, Field(max_length=300, description="`next` of the page before.")] = ""
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100

    @field_validator("after", "before")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        """A moment without a zone is taken as UTC, which is what every answer is in."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Record(Shape):
    """One record of the audit."""

    segment: str
    number: int
    at: datetime
    event: str
    subject: str
    on_behalf_of: str
    server: str
    target: str
    outcome: str
    milliseconds: float
    trace: str
    detail: str


class Records(Shape):
    """A page of the audit, newest first."""

    records: list[Record]
    next: Annotated[str | None, Field(description="`cursor` of the next page; null at the end.")]


class Verified(Shape):
    """What checking the hash chain found."""

    ok: bool
    segments: int
    records: int
    fault: str | None = None


class LogQuery(BaseModel):
    """Which log lines."""

    model_config = ConfigDict(extra="ignore")

    source: Annotated[str, Field(max_length=100)] = ""
    query: Annotated[str, Field(max_length=500)] = ""
    limit: Annotated[int, Field(ge=1, le=2_000)] = 200


class Line(Shape):
    """One log line."""

    at: str
    source: str
    level: str
    message: str


class Lines(Shape):
    """Log lines, newest last."""

    lines: list[Line]


class Replica(Shape):
    """A child of the runner."""

    name: str


class Replicas(Shape):
    """All children of the runner."""

    replicas: list[Replica]


class ReplicasBody(Strict):
    """How many processes a child should have."""

    replicas: Annotated[int, Field(ge=0, le=100)]


class ServerCounts(Shape):
    """Servers by state."""

    ready: int
    degraded: int
    down: int
    new: int


class Status(Shape):
    """The hub in one look."""

    version: str
    url: str
    uptime: float
    workers: int
    runner: str
    agents: str
    servers: ServerCounts
    revision: int


class Check(Shape):
    """One thing that `doctor` looked at."""

    name: Annotated[str, Field(description="The step, or the code of what was found (docs/doctor.md).")]
    ok: bool
    detail: str
    hint: str
    owner: Annotated[str, Field(description="Who must act on what was found.")] = ""


class ExamineQuery(BaseModel):
    """How a server is examined."""

    model_config = ConfigDict(extra="ignore")

    idle: Annotated[float, Field(ge=0, le=300, description="Seconds to keep silent on its event stream.")] = 8.0
    stream: Annotated[bool, Field(description="Whether each step is told as it ends, as lines of JSON.")] = False


class Checks(Shape):
    """All that `doctor` looked at."""

    checks: list[Check]


class Description(Shape):
    """An OpenAPI 3.1 description."""

    openapi: str
