"""What the runner is asked to keep running, as it comes over the API and as it is kept in `runner.json`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from hub.errors import Unavailable

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class ChildSpec(BaseModel):
    """One wanted child. Equal specs are the same child; another spec restarts it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[tuple[Argument, ...], Field(min_length=1)]
    env: dict[str, Argument] = {}
    cwd: str | None = None
    folders: dict[str, Literal["read", "write", "own"]] = Field(
        {}, description="What its sandbox shows of the host; `own` may be written and may change its owner."
    )
    sandbox: Literal["server", "trusted"] = "server"
    kind: Literal["stdio", "http"] = "stdio"
    replicas: int = Field(1, ge=0, le=64)
    isolation: Literal["shared", "per-principal"] = "shared"
    start: Literal["lazy", "now"] = "lazy"
    idle_seconds: float = Field(900, gt=0, description="Seconds without a call before a lazy child is stopped.")
    start_seconds: float = Field(30, gt=0, le=600, description="Seconds to answer its first message.")


class ReplicasBody(BaseModel):
    """Body of `PUT /children/{name}/replicas`."""

    model_config = ConfigDict(extra="forbid")

    replicas: int = Field(ge=0, le=64)


@dataclass(frozen=True)
class Bounds:
    """What no child may exceed. Counts and bytes are per process unless said otherwise."""

    line_bytes: int = 64 * 2**20
    pending: int = 1000
    """Open requests of one process."""
    sessions: int = 10_000
    """Legacy sessions of one child."""
    session_seconds: float = 1800
    """A session without a request or a stream for so long is forgotten."""
    outbox: int = 256
    """Messages that wait for one reader before its notifications are dropped."""
    isolated: int = 200
    """Principals of one per-principal child at a time."""
    answer_seconds: float = 3600
    """Silence after which an open call is given up; the hub's own deadline comes long before."""
    ask_seconds: float = 600
    """How long a question of the server may stay unanswered."""
    hold_seconds: float = 60
    """How long a new call waits while the server is asking another caller."""
    unclear_seconds: float = 10
    """How long a question waits until it is known whose it is: until all other callers' calls are over."""
    parallel_starts: int = 2


@dataclass(frozen=True)
class WantedFile:
    """The wanted set on disk; 0600, since it holds the children's environments."""

    path: Path

    def load(self) -> dict[str, ChildSpec]:
        """The kept set; empty when there is none. Raises Unavailable when it cannot be understood."""
        try:
            return WANTED.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise Unavailable(
                f"{self.path} cannot be read",
                hint="move the file away; the hub tells the runner again what it wants",
                reason=str(error),
            ) from error

    def save(self, wanted: dict[str, ChildSpec]) -> None:
        """Replace the kept set in one step."""
        body = orjson.dumps({name: spec.model_dump() for name, spec in wanted.items()}, option=orjson.OPT_INDENT_2)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".runner-")
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self.path)


NAME: TypeAdapter[str] = TypeAdapter(Name)
WANTED: TypeAdapter[dict[str, ChildSpec]] = TypeAdapter(dict[Name, ChildSpec])
