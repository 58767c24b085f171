"""Two workers on one address: a client's session, a change and a revoked key are the same on both."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.installation import Installation, free_port, installed

pytestmark = pytest.mark.slow

JSON = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
META = "io.modelcontextprotocol/"
TIMES = 24
"""New connections per question: the chance that one worker took them all is one in millions."""

SERVER = """
import sys
import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel
class Who(BaseModel):
    name: str
server = MCPServer("greeter")
@server.tool()
async def ask(ctx: Context) -> str:
    '''Asks who is there, in the middle of the call.'''
    answer = await ctx.elicit("Who are you?", Who)
    return f"hello {answer.data.name}"
@server.tool()
def greet(name: str) -> str:
    '''Greets.'''
    return f"hello {name}"
@server.tool()
async def nap(seconds: float) -> str:
    '''Sleeps.'''
    await anyio.sleep(seconds)
    return "awake"
server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    """A hub of two workers with one server behind it."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stderr=subprocess.DEVNULL)
    try:
        with installed(tmp_path_factory.mktemp("two"), "--workers", "2") as installation:
            added = installation.run("servers", "add", "greeter", f"http://127.0.0.1:{port}/mcp")
            while added.returncode and server.poll() is None:
                # The server is still starting; its refusal to connect is immediate.
                added = installation.run("servers", "add", "greeter", f"http://127.0.0.1:{port}/mcp")
            assert added.returncode == 0, added.stderr
            # The same again as an old server, which asks on the stream of a call.
            old = installation.run("servers", "add", "asker", f"http://127.0.0.1:{port}/mcp", "--era", "legacy")
            assert old.returncode == 0, old.stderr
            yield installation
    finally:
        server.kill()
        server.wait()


def post(installation: Installation, token: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """One POST on a connection of its own, so that either worker may get it."""
    sent = JSON | {"authorization": f"Bearer {token}"} | headers
    return httpx.post(f"{installation.url}/mcp", json=body, headers=sent, timeout=30)


def message(method: str, params: dict[str, Any], identifier: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}


HELLO = message(
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
)


def test_a_legacy_session_is_served_by_whichever_worker_gets_the_request(two: Installation) -> None:
    token = two.token("session")
    session = post(two, token, HELLO).headers["mcp-session-id"]
    called = message("tools/call", {"name": "greet", "arguments": {"name": "you"}})
    answers = [post(two, token, called | {"id": one}, **{"mcp-session-id": session}) for one in range(TIMES)]
    assert Counter(answer.status_code for answer in answers) == {200: TIMES}
    assert all("hello you" in answer.text for answer in answers)


def test_a_session_belongs_to_its_principal_on_every_worker(two: Installation) -> None:
    session = post(two, two.token("owner"), HELLO).headers["mcp-session-id"]
    stranger = two.token("stranger")
    ping = message("ping", {})
    answers = [post(two, stranger, ping, **{"mcp-session-id": session}) for _ in range(TIMES)]
    assert {answer.status_code for answer in answers} == {404}


def test_the_header_that_workers_use_among_themselves_means_nothing_from_outside(two: Installation) -> None:
    answer = httpx.post(
        f"{two.url}/mcp", json=HELLO, headers=JSON | {"x-entrepot-forwarded": "eyJzdWJqZWN0IjoiYWRtaW4ifQ=="}
    )
    assert answer.status_code == 401


def test_a_revoked_key_is_refused_by_every_worker_once_that_is_acknowledged(two: Installation) -> None:
    token = two.token("leaver")
    assert {post(two, token, HELLO).status_code for _ in range(TIMES)} == {200}
    two.run("tokens", "revoke", "leaver", code=0)
    assert {post(two, token, HELLO).status_code for _ in range(TIMES)} == {401}


def test_a_server_that_was_added_is_served_by_every_worker_once_that_is_acknowledged(
    two: Installation, tmp_path: Path
) -> None:
    declared = tmp_path / "declared.yaml"
    declared.write_text("collections:\n  - name: greeting\n    members: [greeter]\n")
    two.run("apply", str(declared), code=0)
    token = two.token("reader")
    sent = JSON | {"authorization": f"Bearer {token}"}
    answers = [
        httpx.post(f"{two.url}/mcp/c/greeting", json=HELLO, headers=sent, timeout=30).status_code for _ in range(TIMES)
    ]
    assert set(answers) == {200}


def test_no_path_can_smuggle_a_header_to_the_other_worker(two: Installation) -> None:
    """The worker that is forwarded to believes the principal it is told, so nothing of the caller may tell it."""
    told = {
        "subject": "local:admin",
        "name": "x" * 7,
        "kind": "local",
        "scopes": ["call"],
        "on_behalf_of": "",
        "expires": 0,
    }
    forged = base64.b64encode(json.dumps(told).encode()).decode()
    token = two.token("nobody", "call:nothing")
    path = f"/mcp/s/greeter%0d%0ax-entrepot-forwarded:%20{quote(forged)}%0d%0aconnection:%20close%0d%0afoo:"
    for worker in (0, 1):
        sent = JSON | {"authorization": f"Bearer {token}", "mcp-session-id": f"{worker}.x"}
        for _ in range(4):
            answer = httpx.post(f"{two.url}{path}", json=HELLO, headers=sent, timeout=30)
            assert answer.status_code in (400, 404)
            assert "mcp-session-id" not in answer.headers


def modern(installation: Installation, token: str, identifier: int, **more: Any) -> httpx.Response:
    """A modern call of the old server's tool that asks, on a connection of its own."""
    meta: dict[str, Any] = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {"elicitation": {}}}
    params: dict[str, Any] = {"name": "ask", "arguments": {}, "_meta": meta} | more
    sent = JSON | {"authorization": f"Bearer {token}", "mcp-protocol-version": "2026-07-28"}
    sent |= {"mcp-method": "tools/call", "mcp-name": "ask"}
    body = message("tools/call", params, identifier)
    return httpx.post(f"{installation.url}/mcp/s/asker", json=body, headers=sent, timeout=30)


def test_a_call_at_rest_goes_on_whichever_worker_gets_the_answer(two: Installation) -> None:
    token, stranger = two.token("asked"), two.token("not-asked")
    holders: Counter[str] = Counter()
    for number in range(TIMES):
        told = modern(two, token, number).json()["result"]
        assert told["resultType"] == "input_required"
        holders[told["requestState"].split(".")[1]] += 1
        (key,) = told["inputRequests"]
        answer = {"action": "accept", "content": {"name": f"caller {number}"}}
        retry: dict[str, Any] = {"requestState": told["requestState"], "inputResponses": {key: answer}}
        refused = modern(two, stranger, 1000 + number, **retry)
        assert (refused.status_code, refused.json()["error"]["code"]) == (200, -32602)
        done = modern(two, token, 2000 + number, **retry).json()
        assert (done["id"], done["result"]["content"][0]["text"]) == (2000 + number, f"hello caller {number}")
    assert set(holders) == {"0", "1"}, "both workers held some"


def test_a_call_whose_worker_is_gone_is_refused_and_not_begun_again(two: Installation) -> None:
    token = two.token("late")
    told = modern(two, token, 1).json()["result"]
    _, _, sealed = told["requestState"].split(".", 2)
    for worker in ("0", "1", "7", "x"):
        moved: dict[str, Any] = {"requestState": f"park.{worker}.{sealed[:-4]}AAAA", "inputResponses": {}}
        assert modern(two, token, 2, **moved).json()["error"]["code"] == -32602


def test_a_legacy_clients_answer_reaches_the_worker_that_asked(two: Installation) -> None:
    token = two.token("legacy-asked")
    hello = HELLO | {"params": HELLO["params"] | {"capabilities": {"elicitation": {}}}}
    session = {"mcp-session-id": post(two, token, hello).headers["mcp-session-id"]}
    sent = JSON | {"authorization": f"Bearer {token}"} | session
    for number in range(TIMES):
        call = message("tools/call", {"name": "asker__ask", "arguments": {}}, 10 + number)
        said: list[dict[str, Any]] = []
        with httpx.stream("POST", f"{two.url}/mcp", json=call, headers=sent, timeout=30) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data: "):
                    continue
                said.append(json.loads(line[6:]))
                if said[-1].get("method") == "elicitation/create":
                    result = {"action": "accept", "content": {"name": f"caller {number}"}}
                    answer = {"jsonrpc": "2.0", "id": said[-1]["id"], "result": result}
                    assert post(two, token, answer, **session).status_code == 202
        assert said[-1]["result"]["content"][0]["text"] == f"hello caller {number}"


def test_a_task_is_answered_by_every_worker_and_cancelled_through_any(two: Installation) -> None:
    token = two.token("tasks")

    def ask(method: str, params: dict[str, Any], name: str) -> dict[str, Any]:
        knows: dict[str, Any] = {"extensions": {f"{META}tasks": {}}}
        meta: dict[str, Any] = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": knows}
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method, "mcp-name": name}
        answer = post(two, token, message(method, params | {"_meta": meta}), **headers)
        return answer.json().get("result") or answer.json()["error"]

    task = ask("tools/call", {"name": "nap", "arguments": {"seconds": 60}}, "nap")["taskId"]
    states = [ask("tasks/get", {"taskId": task}, task)["status"] for _ in range(TIMES)]
    assert Counter(states) == {"working": TIMES}
    assert [ask("tasks/cancel", {"taskId": task}, task) for _ in range(TIMES)] == [{"resultType": "complete"}] * TIMES
    states = [ask("tasks/get", {"taskId": task}, task)["status"] for _ in range(TIMES)]
    assert Counter(states) == {"cancelled": TIMES}
