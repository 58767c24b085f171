"""Static settings: what needs a restart. The only reader of the environment.

Each setting is `ENTREPOT_NAME` in the environment or `name` in `$ENTREPOT_HOME/entrepot.toml`; the
environment wins. Everything that changes while running is catalog state instead.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

LONGEST_SOCKET_PATH = 100
"""Linux allows 107 bytes in a socket's address; a name of ours takes up to 40 below the folder."""


class Settings(BaseSettings):
    """Everything that is fixed for the life of a process."""

    model_config = SettingsConfigDict(env_prefix="ENTREPOT_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=lambda: Path.home() / ".entrepot", description="Folder that holds all state.")
    host: str = Field(default="127.0.0.1", description="Address that the hub listens on.")
    port: int = Field(default=4180, ge=0, le=65535, description="Port that the hub listens on.")
    public_url: str = Field(
        default="", description="URL that clients reach the hub under, where a proxy stands in front."
    )
    workers: int = Field(default=1, ge=1, le=64, description="Processes that serve the HTTP face.")
    open: bool = Field(
        default=False, description="Let loopback callers in without a token. Refused on other addresses."
    )
    bare: bool = Field(default=False, description="Start without bundled servers, agents and models.")
    allowed_hosts: list[str] = Field(default_factory=list, description="Further Host names that are answered.")
    allowed_origins: list[str] = Field(default_factory=list, description="Further Origins that are answered.")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty means SQLite inside home.")
    weights: Path | None = Field(
        default=None, description="Folder of model weights that were fetched before; empty means inside home."
    )
    local_model: str = Field(
        default="", description="Path of a GGUF file that the local engine serves instead of the embedded model."
    )
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024, description="Largest request body, in bytes.")
    max_result_bytes: int = Field(default=64 * 2**20, ge=1024, description="Largest answer of a server, in bytes.")
    connect_seconds: float = Field(default=10, gt=0, description="Seconds to reach a server.")
    list_seconds: float = Field(default=20, gt=0, description="Seconds for a server to answer a list.")
    call_seconds: float = Field(
        default=300, gt=0, description="Seconds for a server to answer a call, or to show a first sign of life."
    )
    idle_seconds: float = Field(
        default=300, gt=0, description="Seconds between a server's signs of life during a call; progress is one."
    )
    total_seconds: float = Field(
        default=3600, gt=0, description="Seconds for a call in all, whatever its server says meanwhile."
    )
    keep_alive_seconds: float = Field(
        default=15, gt=0, description="Seconds of silence towards a client before it is sent a sign of life."
    )
    task_after_seconds: float = Field(
        default=5, gt=0, description="Seconds before a call becomes a task, for clients that know tasks."
    )
    task_ttl_seconds: int = Field(default=3600, ge=60, description="Seconds that an ended task's result is kept.")
    code_processes: int = Field(
        default=2, ge=1, le=64, description="Interpreters for programs of code mode, in each worker; none until needed."
    )
    code_cpu_seconds: float = Field(default=5, gt=0, le=60, description="Seconds that a program may compute.")
    code_seconds: float = Field(default=300, gt=0, description="Seconds for a program in all, its calls included.")
    code_memory_bytes: int = Field(default=64 * 2**20, ge=2**20, description="Memory of one program, in bytes.")
    code_calls: int = Field(default=200, ge=1, description="Calls that one program may make.")
    code_parallel_calls: int = Field(default=8, ge=1, description="Calls of one program at the same time.")
    code_output_bytes: int = Field(
        default=32 * 2**10, ge=1024, description="Characters of a program's output that its caller is shown."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    log_format: Literal["text", "json"] = Field(default="json", description="Form of the log lines.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file in home."""
        home = Path(os.environ.get("ENTREPOT_HOME") or Path.home() / ".entrepot")
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, home / "entrepot.toml"))

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'entrepot.db'}"

    @property
    def url(self) -> str:
        """Where people and clients reach the hub, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def run_dir(self) -> Path:
        """Folder of the local sockets, mode 0700; elsewhere when home's own path is too long for a socket."""
        folder = self.home / "run"
        if len(str(folder)) + 40 <= LONGEST_SOCKET_PATH:
            return folder
        digest = hashlib.sha256(str(self.home.absolute()).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"entrepot-{os.getuid()}-{digest}"

    @property
    def admin_socket(self) -> Path:
        """The hub's REST and MCP faces for the local administrator; mode 0600."""
        return self.run_dir / "admin.sock"

    @property
    def runner_socket(self) -> Path:
        """The runner's API, and every child server behind it."""
        return self.run_dir / "runner.sock"

    @property
    def agents_socket(self) -> Path:
        """The agents worker: agents as MCP tools."""
        return self.run_dir / "agents.sock"

    @property
    def limits_socket(self) -> Path:
        """The coordinator of several workers."""
        return self.run_dir / "limits.sock"

    @property
    def quotas_file(self) -> Path:
        """What is used of quotas in their present periods."""
        return self.home / "quotas.jsonl"

    @property
    def audit_dir(self) -> Path:
        """Folder of the hash-chained audit segments."""
        return self.home / "audit"

    @property
    def weights_dir(self) -> Path:
        """Folder of model weights."""
        return self.weights or self.home / "weights"

    @property
    def logs_dir(self) -> Path:
        """Folder of the log files: one per process of ours, and one per child."""
        return self.home / "logs"
