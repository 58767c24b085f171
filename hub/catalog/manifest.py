"""The declared form of servers and collections: what a person or a file may ask for, checked before anything happens.

Values are taken as they are: nothing is expanded from the hub's environment or files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

import orjson
import yaml
from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator, model_validator

from hub.catalog.canary import CanarySpec
from hub.catalog.limits import LimitSpec
from hub.catalog.profiles import PROFILES
from hub.catalog.snapshot import Mode
from hub.catalog.strict import NAME, Name, Short, Strict, Text
from hub.catalog.terms import ConcurrencySpec, DeadlinesSpec, HealthSpec
from hub.errors import InvalidParams, TooLarge

__all__ = ["NAME", "CollectionSpec", "Declaration", "LimitSpec", "Name", "ServerSpec", "Short", "Strict", "Text"]

LARGEST_FILE = 2**20
DEEPEST = 32
MOST_SERVERS = 1_000

_NPM = re.compile(
    r"npm:(?P<name>(@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*)@(?P<version>\d+\.\d+\.\d+[0-9A-Za-z.+-]*)"
)
_PYPI = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(?P<extras>\[[A-Za-z0-9._,-]+\])?"
    r"==(?P<version>\d[0-9A-Za-z.+!_-]*)"
)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "accept", "connection", "transfer-encoding", "upgrade", "te", "trailer"}
)

Argument = Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=r"^[^\x00]*$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Secrets = dict[str, SecretStr]
Requirement = Annotated[
    str,
    StringConstraints(
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?((==|~=|!=|<=|>=|<|>)\d[0-9A-Za-z.+!*_-]*,?)*$",
    ),
]
Folder = Annotated[str, StringConstraints(max_length=1_000, pattern=r"^/[^\x00]*$")]

ServerKind = Literal["http", "stdio", "package", "openapi", "internal"]


class ServerSpec(Strict):
    """One server as declared: reached at a `url`, or started from a `command`, a `package` or an `openapi` URL."""

    name: Name
    url: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    command: Annotated[list[Argument], Field(min_length=1, max_length=100)] | None = None
    package: Short | None = None
    openapi: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    base_url: Annotated[str, StringConstraints(max_length=2_000)] | None = Field(
        default=None,
        description="Where the API of an `openapi` description is, if not at the origin of that description.",
    )
    args: Annotated[list[Argument], Field(max_length=100)] = Field(
        default_factory=list[Argument], description="Further arguments of a package's command."
    )
    requirements: Annotated[list[Requirement], Field(max_length=20)] = Field(
        default_factory=list[Requirement],
        description="What a pypi: package is installed with, as `mcp<2` for one that forgot to say so.",
    )
    folders: Annotated[dict[Folder, Literal["read", "write", "own"]], Field(max_length=20)] = Field(
        default_factory=dict[Folder, Literal["read", "write", "own"]],
        description="Folders of this machine that the sandbox shows at their own paths. Where the hub runs as root, a "
        "folder to write becomes, with all in it, the property of the sandbox's user: `write` refuses that for one "
        "that is not empty, `own` agrees to it.",
    )
    era: Literal["auto", "modern", "legacy"] = "auto"
    env: Secrets = Field(default_factory=dict[str, SecretStr], description="Environment of the child; sealed at rest.")
    headers: Secrets = Field(
        default_factory=dict[str, SecretStr], description="Headers sent to the URL; sealed at rest."
    )
    title: Short = ""
    description: Text = ""
    version: Short = Field(default="", description="What tells the figures of this version from another's.")
    replicas: Annotated[list[Annotated[str, StringConstraints(max_length=2_000)]], Field(max_length=50)] = Field(
        default_factory=list[str],
        description="URLs of more replicas of this version; the least loaded is called.",
    )
    canary: CanarySpec | None = Field(
        default=None, description="A version to try out. Left out, a roll-out under way stays as it is."
    )
    isolation: Literal["shared", "per-principal"] = "shared"
    sandbox: Literal["server", "trusted"] = "server"
    check_arguments: bool = Field(
        default=True,
        description="Whether a call whose arguments do not fit its tool's inputSchema is answered here, as the tool's "
        "error. Turn it off for a server that takes what its own schemas forbid.",
    )
    deadlines: DeadlinesSpec = Field(default_factory=DeadlinesSpec)
    concurrency: ConcurrencySpec = Field(default_factory=ConcurrencySpec)
    health: HealthSpec = Field(default_factory=HealthSpec)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        given = [way for way in ("url", "command", "package", "openapi") if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of url, command, package and openapi")
        if self.base_url is not None and self.openapi is None:
            raise ValueError("base_url belongs to an openapi description")
        if self.openapi is not None and self.isolation != "shared":
            raise ValueError("a server made from an openapi description is shared by all callers")
        for url in (self.url, self.openapi, self.base_url, *self.replicas):
            if url is not None:
                _check_url(url)
        if self.replicas and self.url is None:
            raise ValueError("replicas belong to a url; those of a child are set at PUT /replicas/NAME")
        if len({self.url, *self.replicas}) != 1 + len(self.replicas):
            raise ValueError("every replica has a URL of its own")
        if self.package is not None and not (_NPM.fullmatch(self.package) or _PYPI.fullmatch(self.package)):
            raise ValueError("a package is npm:NAME@1.2.3 or pypi:NAME==1.2.3, with one exact version")
        if self.args and self.package is None:
            raise ValueError("args belong to a package; a command carries its own")
        if self.requirements and not (self.package or "").startswith("pypi:"):
            raise ValueError("requirements belong to a pypi: package")
        if self.folders and self.kind not in ("stdio", "package"):
            raise ValueError("folders belong to a command or a package")
        if any(".." in path.split("/") for path in self.folders):
            raise ValueError("a folder is an absolute path without ..")
        if self.env and self.kind not in ("stdio", "package"):
            raise ValueError("env belongs to a command or a package; a URL takes headers")
        if self.headers and self.kind not in ("http", "openapi"):
            raise ValueError("headers belong to a URL; a command or a package takes env")
        _check_env(self.env)
        _check_headers(self.headers)
        return self

    @property
    def kind(self) -> ServerKind:
        """How the server is reached."""
        if self.url is not None:
            return "http"
        if self.command is not None:
            return "stdio"
        return "package" if self.package is not None else "openapi"

    @property
    def is_child(self) -> bool:
        """Whether the runner starts it."""
        return self.url is None

    @property
    def address(self) -> str:
        """What people are shown: the URL without its query, the command or the package."""
        if self.kind in ("http", "openapi"):
            parts = urlsplit(self.url or self.openapi or "")
            return parts._replace(query="…" if parts.query else "").geturl()
        return self.package or " ".join(self.command or [])


class CollectionSpec(Strict):
    """A curated set of `server` or `server/name`; `*` stands for any run of characters."""

    name: Name
    title: Short = ""
    description: Text = ""
    members: Annotated[list[Pattern], Field(max_length=5_000)]
    mode: Mode = Field(
        default="all",
        description="How clients see its tools: `all` of them, `search` (tools that find and call the others), "
        "or `code` (one that runs a program over them).",
    )
    pinned: Annotated[list[Pattern], Field(max_length=50)] = Field(
        default_factory=list[str], description="Tools that are listed in every mode, as `server` or `server/name`."
    )
    client: str = Field(
        default="",
        description="The profile of all its clients, whatever they call themselves: a name of the table of clients.",
    )

    @field_validator("client")
    @classmethod
    def _is_a_profile(cls, client: str) -> str:
        if client and client not in PROFILES:
            raise ValueError(f"there is no client profile {client!r}: one of {', '.join(PROFILES)}")
        return client


class Declaration(Strict):
    """What `apply` brings about: these entries exist in this form afterwards; others are left alone."""

    servers: Annotated[list[ServerSpec], Field(max_length=MOST_SERVERS)] = Field(default_factory=list[ServerSpec])
    collections: Annotated[list[CollectionSpec], Field(max_length=MOST_SERVERS)] = Field(
        default_factory=list[CollectionSpec]
    )
    models: Annotated[list[dict[str, Any]], Field(max_length=MOST_SERVERS)] = Field(
        default_factory=list[dict[str, Any]]
    )
    limits: Annotated[list[LimitSpec], Field(max_length=MOST_SERVERS)] = Field(default_factory=list[LimitSpec])

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        for what, names in (
            ("server", [server.name for server in self.servers]),
            ("collection", [collection.name for collection in self.collections]),
            ("model", [str(model.get("name")) for model in self.models]),
            ("limit", [limit.name for limit in self.limits]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]} is declared twice")
        return self


def npm(package: str) -> tuple[str, str] | None:
    """Name and version of an `npm:` reference; None for others."""
    match = _NPM.fullmatch(package)
    return (match["name"], match["version"]) if match else None


def pypi(package: str) -> tuple[str, str, str] | None:
    """Name, extras and version of a `pypi:` reference; None for others."""
    match = _PYPI.fullmatch(package)
    return (match["name"], match["extras"] or "", match["version"]) if match else None


def parse(body: bytes) -> Any:
    """The value of a JSON or YAML text within bounds. Raises `TooLarge` or `InvalidParams`.

    YAML anchors and tags are refused: an alias can make a small text expand without end.
    """
    if len(body) > LARGEST_FILE:
        raise TooLarge(f"The file is larger than {LARGEST_FILE} bytes.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _parse_yaml(body)
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise `TooLarge` for a value that is nested too deep to be meant."""
    if _too_deep(value):
        raise TooLarge(f"That is nested deeper than {DEEPEST} levels.")


def declaration(value: Any) -> Declaration:
    """A checked `Declaration`. Raises `InvalidParams` that says where the fault is."""
    try:
        return Declaration.model_validate(value)
    except ValidationError as error:
        raise InvalidParams(explained(error)) from error


def explained(error: ValidationError) -> str:
    """A validation error in one line, without the values, which may be secrets."""
    faults = [
        f"{'.'.join(str(step) for step in fault['loc']) or 'the whole'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "") + "."


def _parse_yaml(body: bytes) -> Any:
    try:
        depth = 0
        events = cast("Iterator[yaml.Event]", yaml.parse(body, Loader=yaml.CSafeLoader))
        for event in events:
            if isinstance(event, yaml.AliasEvent):
                raise InvalidParams("The file uses a YAML alias; write the value out.")
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                depth += 1
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                depth -= 1
            if depth > DEEPEST:
                raise TooLarge(f"The file is nested deeper than {DEEPEST} levels.")
        return yaml.load(body, Loader=yaml.CSafeLoader)  # the safe loader: no tags of Python's
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidParams(f"The file is neither JSON nor YAML: {' '.join(str(error).split())}") from error


def _too_deep(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(item.values())  # pyright: ignore[reportUnknownArgumentType] - any JSON
            elif isinstance(item, list):
                following.extend(item)  # pyright: ignore[reportUnknownArgumentType] - any JSON
        level = following
        if not level:
            return False
    return True


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL starts with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into a URL; give them as a header")
    if parts.fragment or re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError("a URL has no fragment, no spaces and no backslashes")
    _ = parts.port  # raises ValueError when it is none


def _check_env(env: Secrets) -> None:
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
            raise ValueError(f"{name[:40]!r} is not the name of an environment variable")
        if name.startswith("ENTREPOT_"):
            raise ValueError(f"{name} is reserved for the hub's own processes")
        if "\0" in value.get_secret_value() or len(value.get_secret_value()) > 32_768:
            raise ValueError(f"the value of {name} is too long or holds a null character")


def _check_headers(headers: Secrets) -> None:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or len(name) > 128:
            raise ValueError(f"{name[:40]!r} is not the name of a header")
        if name.lower() in _OWN_HEADERS or name.lower().startswith(("mcp-", "proxy-")):
            raise ValueError(f"the header {name} is set by the hub itself")
        text = value.get_secret_value()
        if not text.isascii() or not text.isprintable() or len(text) > 8_192:
            raise ValueError(f"the value of the header {name} is too long or not printable ASCII")
