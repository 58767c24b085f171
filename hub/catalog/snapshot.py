"""The immutable view of the catalog that every call reads, and nothing else.

Built whole by `publisher.py`, swapped with one assignment, shared by all requests of a worker. Definitions
are kept as the JSON bytes that the server gave, so that a list is a join of fragments and no field is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from hub.catalog.limits import Limit
from hub.upstream.address import KINDS, Address, Era, Kind

__all__ = [
    "EMPTY",
    "KINDS",
    "MODES",
    "Address",
    "Canary",
    "Era",
    "Kind",
    "Mode",
    "Part",
    "Server",
    "Snapshot",
    "Target",
    "View",
]

Mode = Literal["all", "search", "code"]
"""How an endpoint shows its tools: every definition, tools that find and call the others, or one that runs code."""

MODES: tuple[Mode, ...] = get_args(Mode)

Track = Literal["", "stable", "canary"]
"""Which side of a roll-out a version of a server is on; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Target:
    """One tool, prompt, resource or template: what an exposed name leads to.

    `fragment` is the definition as listed under `exposed`; `param_headers` maps the lower-case name of an
    `Mcp-Param-*` header (without that prefix) to the path of the argument that it mirrors.
    """

    server: str
    kind: Kind
    name: str
    exposed: str
    fragment: bytes
    digest: str
    param_headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reads: bool = False
    """It changes nothing, by its kind or by what its server says of it (`readOnlyHint`)."""
    repeatable: bool = False
    """Twice does no more than once: it reads, or its server says so (`idempotentHint`)."""


@dataclass(frozen=True, slots=True)
class Server:
    """A registered server as calls see it. `capabilities` and `instructions` are per era, as it declared them."""

    name: str
    address: Address
    digest: str
    eras: frozenset[Era]
    capabilities: Mapping[Era, Mapping[str, object]]
    info: Mapping[Era, Mapping[str, object]]
    instructions: Mapping[Era, str] = field(default_factory=dict[Era, str])
    internal: bool = False
    """Ours (agents, bundled servers): told on whose behalf it is called."""
    check_arguments: bool = True
    """Whether arguments are held against the schemas of its tools before it gets them."""
    version: str = ""
    """What tells its figures from another version's: as declared, or as the server says."""
    track: Track = ""
    place: str = ""
    """Tells a server's versions apart, also after one was promoted."""

    def era_for(self, client: Era) -> Era:
        """The era to speak to this server in: the client's where it has both (protocol: era affinity)."""
        return client if client in self.eras or not self.eras else next(iter(self.eras))

    def facts(self, client: Era) -> Mapping[str, object]:
        """The capabilities that it has towards clients of an era."""
        return self.capabilities.get(self.era_for(client), {})


@dataclass(frozen=True, slots=True)
class Part:
    """One server's share of a view; the same object in every snapshot for as long as nothing in it changes."""

    server: str
    listed: Mapping[tuple[Era, Kind], tuple[Target, ...]]
    names: Mapping[tuple[Kind, str], Target]
    """The listed names."""


@dataclass(frozen=True, slots=True)
class View:
    """One endpoint's content: all that is behind `/mcp`, a collection or a single server, before admission."""

    key: str
    """`""` for `/mcp`, `c/NAME` for a collection, `s/NAME` for a server."""
    servers: tuple[str, ...]
    listed: Mapping[tuple[Era, Kind], tuple[Target, ...]]
    names: Mapping[tuple[Kind, str], Target]
    """Every callable name: listed ones, and unlisted aliases that once were listed."""
    mode: Mode = "all"
    """How its tools are shown to a client that does not ask for another way."""
    pinned: tuple[str, ...] = ()
    """Patterns of the tools that are listed in every mode."""
    parts: tuple[Part, ...] = ()
    """What `listed` is joined from: what is decided for a whole server need not look at each of its targets.
    Empty where a view lists something else than its servers do."""
    client: str = ""
    """The profile of all its clients (`profiles.py`), where it declares one."""
    profile: str = ""
    """The profile that it is shown in, for a client that needs one."""

    def resolve(self, kind: Kind, name: str) -> Target | None:
        """The target behind a name, or None."""
        return self.names.get((kind, name))


@dataclass(frozen=True, slots=True)
class Canary:
    """A version of a server that some callers get: who they are, and what is theirs in each view."""

    server: Server
    """Under the name of the server that it is to become."""
    share: float
    """Per cent of all callers."""
    groups: frozenset[str]
    clients: tuple[str, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    salt: str
    """Another one for each roll-out, so that it is not always the same callers who try things out."""
    parts: Mapping[str, Part]
    """Its share of every view that shows any of it, by the view's key."""
    aliases: tuple[tuple[tuple[Kind, str], tuple[Kind, str]], ...]
    """Unlisted names of everybody's, and the listed name that each stands for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All views at one revision."""

    revision: int
    servers: Mapping[str, Server]
    views: Mapping[str, View]
    limits: tuple[Limit, ...] = ()
    """The same object for as long as the limits are the same."""
    canaries: Mapping[str, Canary] = field(default_factory=dict[str, Canary])
    """Roll-outs under way, by server."""
    variant: frozenset[str] = frozenset()
    """The servers of which this is the canary's side (`canary.variant`)."""
    base: Snapshot | None = None
    """The snapshot that this is a variant of; what is kept per snapshot is kept under `origin` and `variant`."""

    @property
    def origin(self) -> Snapshot:
        """The snapshot in force, whichever variant of it this is."""
        return self.base or self

    def digests(self) -> set[str]:
        """Every registration that may be called."""
        return {one.digest for one in self.servers.values()} | {one.server.digest for one in self.canaries.values()}

    def holds(self, server: str, digest: str) -> bool:
        """Whether a registration of a server is still in force, on either side of a roll-out."""
        known, canary = self.servers.get(server), self.canaries.get(server)
        return (known is not None and known.digest == digest) or (canary is not None and canary.server.digest == digest)


EMPTY = Snapshot(0, {}, {"": View("", (), {}, {})})
