"""A worker as a process of its own, to be killed: `python -m tests.agents.support.worker HOME HUB_SOCKET`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agents.border import listening
from agents.wire.hub import HubAddress
from agents.worker import Worker
from hub.settings import Settings
from tests.agents.support.sandboxes import PlainSandboxes


async def main(home: str, hub_socket: str) -> None:
    """Serve until killed; says `ready` once calls are answered."""
    settings = Settings.model_validate({"home": Path(home), "port": 1})
    worker = Worker(settings, HubAddress("http://hub", hub_socket), PlainSandboxes())
    async with worker.running() as app, listening(app, settings.agents_socket):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
