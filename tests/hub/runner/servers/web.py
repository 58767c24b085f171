"""A child of kind `http`: listens on `--uds PATH`."""

import asyncio
import os
import sys

import uvicorn
from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    body, more = b"", True
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
            if (await receive())["type"] == "http.disconnect":
                print("the reader left", file=sys.stderr, flush=True)
                return
            await asyncio.sleep(0)
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    head = f"{os.getpid()} {scope['method']} {scope['path']}?{scope['query_string'].decode()} {len(body)}".encode()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-mark", b"yes")]})
    await send({"type": "http.response.body", "body": head})


uvicorn.run(app, uds=sys.argv[sys.argv.index("--uds") + 1], lifespan="off", log_level="warning")
