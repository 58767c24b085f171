"""A real installation in a folder of its own: `entrepot up --detach`, its command line, and a guaranteed `down`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN_SECONDS = 90
"""For one command; starting a hub on a busy machine takes the longest."""


@dataclass(frozen=True)
class Installation:
    """One home and address. `run` is the `entrepot` command as a user would type it."""

    home: Path
    port: int
    env: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def url(self) -> str:
        """Where the hub serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of its commands: nothing of ours leaks in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
        return {**kept, "ENTREPOT_HOME": str(self.home), "ENTREPOT_PORT": str(self.port), **self.env}

    def run(self, *argv: str, stdin: str = "", code: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run `entrepot` with these arguments; `code` is the exit code that is expected, None: any."""
        done = subprocess.run(
            [sys.executable, "-m", "hub", *argv],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert code in (None, done.returncode), f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *argv: str, stdin: str = "", code: int = 0) -> Any:
        """What a command prints with `--json`, which is put where options of ours still count."""
        place = argv.index("--stdio") if "--stdio" in argv else len(argv)
        return json.loads(self.run(*argv[:place], "--json", *argv[place:], stdin=stdin, code=code).stdout)

    def token(self, name: str = "test", *scopes: str) -> str:
        """A new key's token."""
        wanted = [word for scope in scopes for word in ("--scope", scope)]
        return self.run("tokens", "create", name, *wanted, "--quiet", code=0).stdout.strip()

    def down(self) -> None:
        """Stop everything of it; nothing to stop is fine."""
        self.run("down", code=0)


@contextmanager
def installed(home: Path, *options: str, env: Mapping[str, str] | None = None) -> Generator[Installation]:
    """A running hub in `home`, bare unless `options` say otherwise; stopped at the end whatever happens."""
    here = Installation(home, free_port(), env or {})
    try:
        here.run("up", "--detach", *(options or ("--bare",)), code=0)
        yield here
    finally:
        here.down()


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
