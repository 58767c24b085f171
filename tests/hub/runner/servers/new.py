"""A modern-only stdio server, written by hand: listens and calls that end when they are cancelled."""

import json
import sys
from typing import Any

KEY = "io.modelcontextprotocol/subscriptionId"
LISTENING: set[Any] = set()


def say(message: dict[str, Any]) -> None:
    """Write one message."""
    print(json.dumps({"jsonrpc": "2.0"} | message), flush=True)


def note(request_id: Any, method: str) -> None:
    """Send one notification of a listen."""
    say({"method": method, "params": {"_meta": {KEY: request_id}, "notifications": {"toolsListChanged": True}}})


for line in sys.stdin:
    message = json.loads(line)
    request_id, params = message.get("id"), message.get("params", {})
    match message["method"]:
        case "server/discover":
            found: dict[str, Any] = {
                "resultType": "complete",
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
            }
            say({"id": request_id, "result": found})
        case "subscriptions/listen":
            LISTENING.add(request_id)
            note(request_id, "notifications/subscriptions/acknowledged")
        case "tools/call" if params["name"] == "change":
            for listening in LISTENING:
                note(listening, "notifications/tools/list_changed")
            say({"id": request_id, "result": {"resultType": "complete", "content": []}})
        case "tools/call" if params["name"] == "finish":
            for listening in LISTENING:
                say({"method": "notifications/cancelled", "params": {"requestId": listening}})
            say({"id": request_id, "result": {"resultType": "complete", "content": []}})
        case "notifications/cancelled":
            LISTENING.discard(params["requestId"])
            print("cancelled", type(params["requestId"]).__name__, file=sys.stderr, flush=True)
        case _:
            say({"id": request_id, "error": {"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}}})
