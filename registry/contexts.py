"""What each page hands its template, and what its `.json` twin answers: the whole vocabulary of the templates."""

from __future__ import annotations

from dataclasses import dataclass

from registry.schemas import Field, Row
from registry.shapes import (
    Agent,
    Chain,
    Change,
    Collection,
    Definition,
    Exposed,
    Key,
    Limit,
    Line,
    Looked,
    Model,
    Record,
    Rollout,
    Run,
    Server,
)


@dataclass(frozen=True, slots=True)
class Broken:
    """Something did not work: `kind` is denied, missing, expired or broken; `owner` must act."""

    kind: str
    code: str
    message: str
    owner: str
    hint: str
    trace: str
    status: int


@dataclass(frozen=True, slots=True)
class SignIn:
    """The way in. `token` is set when a one-time link was opened, `spent` when it no longer works."""

    token: str = ""
    next: str = ""
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Home:
    """The overview. A section that could not be had is None and its fault stands in `faults` under its name."""

    servers: tuple[Server, ...] | None
    agents: tuple[Agent, ...] | None
    models: tuple[Model, ...] | None
    records: tuple[Record, ...] | None
    runs: tuple[Run, ...] | None
    states: dict[str, int]
    tools: int
    faults: dict[str, Broken]


@dataclass(frozen=True, slots=True)
class Servers:
    """All servers; `state` and `words` are the filter in force, `states` the count of each state before it."""

    servers: tuple[Server, ...]
    states: dict[str, int]
    state: str
    words: str
    total: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One definition, ready to read."""

    definition: Definition
    title: str
    description: str
    arguments: tuple[Row, ...]
    returns: tuple[Row, ...]
    marks: tuple[str, ...]
    """What the server claims of a tool (`read-only`, `destructive`): its own word, not proven."""
    raw: str


@dataclass(frozen=True, slots=True)
class ServerDetail:
    """One server with what it offers, or with the fault that kept the definitions away."""

    server: Server
    offers: tuple[Offer, ...]
    fault: Broken | None
    endpoint: str
    rollout: Rollout | None = None
    """Where a version is tried out, or was."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the doctor found of a server, and the steps that found nothing."""

    server: str
    findings: tuple[Looked, ...]
    steps: tuple[Looked, ...]


@dataclass(frozen=True, slots=True)
class AddServer:
    """The form for a new server, what would be exposed, or what is wrong."""

    kind: str
    typed: dict[str, str]
    errors: dict[str, str]
    fault: Broken | None = None
    preview: Server | None = None
    exposed: tuple[Exposed, ...] = ()
    changes: tuple[Change, ...] | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """One item of a result: text, image, audio, link or resource. `source` is a safe `data:` URI."""

    kind: str
    text: str = ""
    source: str = ""
    mime: str = ""
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came back with. `kind` is ok, tool-error, error, input or task."""

    kind: str
    contents: tuple[Content, ...]
    structured: str
    message: str
    milliseconds: float
    trace: str
    raw: str


@dataclass(frozen=True, slots=True)
class TryTool:
    """A tool with the form of its arguments, and the outcome of the last call."""

    server: str
    tool: str
    title: str
    description: str
    arguments: tuple[Row, ...]
    fields: tuple[Field, ...]
    outcome: Outcome | None = None
    fault: Broken | None = None


@dataclass(frozen=True, slots=True)
class Agents:
    """All agents."""

    agents: tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class AgentDetail:
    """An agent: manifest, form to ask it, its runs."""

    agent: Agent
    manifest: str
    fields: tuple[Field, ...]
    runs: tuple[Run, ...]
    unaskable: Broken | None = None
    outcome: Outcome | None = None
    fault: Broken | None = None


@dataclass(frozen=True, slots=True)
class Runs:
    """Recent runs."""

    runs: tuple[Run, ...]
    agent: str


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One run with its steps. `live` while it is queued or running."""

    run: Run
    live: bool


@dataclass(frozen=True, slots=True)
class Models:
    """All models."""

    models: tuple[Model, ...]


@dataclass(frozen=True, slots=True)
class AddModel:
    """The form for a model at another endpoint. The key that was typed is never shown again."""

    typed: dict[str, str]
    errors: dict[str, str]
    fault: Broken | None = None


@dataclass(frozen=True, slots=True)
class ModelDetail:
    """One model, and the last thing that was said to it."""

    model: Model
    asked: str = ""
    answered: str = ""
    milliseconds: float = 0
    errors: dict[str, str] | None = None
    fault: Broken | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys, the form for a new one, and the new one itself: its token is shown this once."""

    keys: tuple[Key, ...]
    typed: dict[str, str]
    errors: dict[str, str]
    made: Key | None = None
    fault: Broken | None = None
    hidden: int = 0
    """Revoked keys and those of runs that are not listed."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Records that match, and the state of the chain when it was asked for."""

    records: tuple[Record, ...]
    typed: dict[str, str]
    next: str = ""
    chain: Chain | None = None
    errors: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits, and the form for one."""

    limits: tuple[Limit, ...]
    typed: dict[str, str]
    errors: dict[str, str]
    fault: Broken | None = None


@dataclass(frozen=True, slots=True)
class Logs:
    """Log lines that match."""

    lines: tuple[Line, ...]
    """Newest first; a line that is itself a JSON record of its program is unfolded."""
    typed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Client:
    """A ready-to-paste configuration: `file` says where it goes (empty for a command)."""

    name: str
    key: str
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Connect:
    """Configurations for the endpoint that was chosen, with a fresh key in them once it was made."""

    url: str
    endpoint: str
    endpoints: tuple[str, ...]
    clients: tuple[Client, ...]
    collections: tuple[Collection, ...]
    made: Key | None = None
    errors: dict[str, str] | None = None
    fault: Broken | None = None
    mode: str = ""
    """How the configurations ask for the tools to be shown; empty: as the endpoint is declared."""
    collection: Collection | None = None
    """The collection that was chosen, whose declared mode can be changed."""
