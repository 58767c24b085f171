"""The harness as a plain process: for tests that are not about the sandbox's walls."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from agents.runs.sandbox import Ended, Job


class PlainSandboxes:
    """Runs the job's files without a sandbox, in a clean interpreter and an environment of its own."""

    async def run(self, job: Job) -> Ended:
        """As the runner does, less the walls."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in job.files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            env = job.env | {"ENTREPOT_BORDER": str(job.border / "border.sock")}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-B", "harness.py", cwd=folder, env=env, stderr=asyncio.subprocess.PIPE
            )
            try:
                _, said = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            return Ended(process.returncode, "", tuple(said.decode().splitlines()[-20:]))
