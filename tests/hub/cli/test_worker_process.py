"""What a worker process carries: it serves, and has loaded nothing that only other processes need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NOT_FOR_WORKERS = (
    # Migrations run in a process of their own; agents, embedders and evaluation have workers of theirs.
    *("alembic", "mako", "authlib", "dbos", "chromadb", "onnxruntime", "tokenizers", "xllamacpp", "numpy", "pandas"),
    *("mcp", "fastmcp", "playwright", "aiohttp", "pytest"),
    # Command lines of libraries, drivers of other databases, and what we have in a smaller form.
    *("rich", "pygments", "sqlalchemy.dialects.postgresql", "jsonschema"),
)

WORKER = """
import os, signal, sys, threading, time
from pathlib import Path
from hub.cli import lean
from hub.cli import worker
from hub.settings import Settings

settings = Settings(bare=True, port=0)
settings.run_dir.mkdir(parents=True, exist_ok=True)
settings.logs_dir.mkdir(parents=True, exist_ok=True)

def stop_when_it_serves():
    until = time.monotonic() + 40
    while not (settings.run_dir / "admin.sock").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop_when_it_serves, daemon=True).start()
worker.serve(settings, 0, None)
print("served", (settings.run_dir / "admin.sock").exists(), *sorted(set(sys.modules) & set(sys.argv[1:])))
"""


def test_a_worker_that_serves_has_loaded_neither_migrations_nor_engines(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, *NOT_FOR_WORKERS],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"ENTREPOT_HOME": str(home)},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["served", "True"]
    # It made the tables before it served, so something else did that.
    assert (home / "entrepot.db").stat().st_size > 0
