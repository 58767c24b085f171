"""A legacy-only stdio server, written by hand: it misbehaves on demand."""

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

OUT = threading.Lock()
ANSWERS: dict[Any, threading.Event] = {}
RESULTS: dict[Any, Any] = {}
CANCELLED: dict[Any, threading.Event] = {}
GATE = threading.Event()


def say(message: dict[str, Any]) -> None:
    with OUT:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}], "vendorExtra": {"kept": True}}


def ask(method: str, params: dict[str, Any]) -> Any:
    key = f"q{len(ANSWERS)}"
    ANSWERS[key] = threading.Event()
    say({"id": key, "method": method, "params": params})
    ANSWERS[key].wait(20)
    return RESULTS[key]


def call(request_id: Any, params: dict[str, Any]) -> dict[str, Any] | None:
    name, arguments = params["name"], params.get("arguments", {})
    token = params.get("_meta", {}).get("progressToken")
    if name == "echo":
        return text(arguments["text"])
    if name == "pid":
        return text(str(os.getpid()))
    if name == "progress":
        for step in range(3):
            say({"method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
        return text("done")
    if name == "log":
        say({"method": "notifications/message", "params": {"level": "warning", "data": "careful"}})
        return text("logged")
    if name == "ask":
        return text(json.dumps(ask("elicitation/create", {"message": "Who?", "requestedSchema": {}})))
    if name == "wait":
        CANCELLED[request_id] = threading.Event()
        say({"method": "notifications/message", "params": {"level": "info", "data": "waiting"}})
        CANCELLED[request_id].wait(20)
        say({"method": "notifications/tools/list_changed"})
        return None
    if name == "gate":
        GATE.wait(20)
        return text("opened")
    if name == "open":
        GATE.set()
        return text("ok")
    if name == "die":
        os._exit(7)
    if name == "garbage":
        with OUT:
            sys.stdout.write("this is no JSON\n" * 2000)
        return text("after garbage")
    if name == "flood":
        for number in range(arguments["count"]):
            say({"method": "notifications/message", "params": {"level": "info", "data": "x" * 100, "n": number}})
        return text("after flood")
    if name == "family":
        subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; setsid sleep 600 & while :; do sleep 600; done"])
        return text("born")
    if name == "huge":
        return text("y" * arguments["bytes"])
    if name == "updated":
        say({"method": "notifications/resources/updated", "params": {"uri": arguments["uri"]}})
        return text("told")
    return {"isError": True, **text("unknown")}


def serve(message: dict[str, Any]) -> None:
    method, request_id = message["method"], message.get("id")
    if method == "initialize":
        result: dict[str, Any] | None = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "old"},
        }
    elif method == "tools/list":
        result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = call(request_id, message["params"])
    elif method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel", "ping"):
        print(method, json.dumps(message.get("params")), file=sys.stderr, flush=True)
        result = {}
    else:
        say({"id": request_id, "error": {"code": -32602, "message": "Invalid request parameters"}})
        return
    if result is not None:
        say({"id": request_id, "result": result})


def main() -> None:
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    print("old server up, token=abcdef123456", file=sys.stderr, flush=True)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        if mode == "mute":
            continue
        message = json.loads(line)
        if "method" not in message:
            RESULTS[message["id"]] = message.get("result") or {"error": message["error"]["message"]}
            ANSWERS[message["id"]].set()
        elif message["method"] == "notifications/cancelled":
            gate = CANCELLED.get(message["params"]["requestId"])
            if gate is not None:
                gate.set()
        elif "id" in message:
            threading.Thread(target=serve, args=(message,), daemon=True).start()
    if mode == "stubborn":
        threading.Event().wait()


main()
