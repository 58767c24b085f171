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
TIMES = 24
"""New connections per question: the chance that one worker took them all is one in millions."""

SERVER = """
import sys
from mcp.server import MCPServer
server = MCPServer("greeter")
@server.tool()
def greet(name: str) -> str:
    '''Greets.'''
    return f"hello {name}"
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
