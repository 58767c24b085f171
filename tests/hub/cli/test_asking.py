"""What `ask` and `call` make of the hub's answers, on a scripted hub behind the admin socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner, Result

from hub.cli import entrepot
from hub.settings import Settings
from tests.support.admin import ScriptedHub

START_SECONDS = 10.0

ANSWER = {
    "content": [{"type": "text", "text": "Ten years. [1]"}],
    "structuredContent": {
        "answer": "Ten years. [1]\x1b[2J",
        "citations": [{"title": "Records policy", "section": "Invoices", "path": "records.md", "lines": "4-6"}],
        "found": True,
    },
    "isError": False,
    "_meta": {"dev.entrepot/run": "run_1", "dev.entrepot/trace": "4bf9"},
}


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.ready.set()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[ScriptedHub]:
    """The scripted hub, listening where the command line looks for it."""
    monkeypatch.setenv("ENTREPOT_HOME", str(tmp_path))
    path = Settings().admin_socket
    path.parent.mkdir(parents=True)
    scripted = ScriptedHub(result=dict(ANSWER))
    server = Server(uvicorn.Config(scripted.app(), uds=str(path), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.ready.wait(START_SECONDS)
    try:
        yield scripted
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)


def typed(*argv: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(entrepot, argv)


def test_an_answer_comes_with_what_it_cites_and_where_its_run_is(hub: ScriptedHub) -> None:
    told = typed("ask", "librarian", "How", "long?")
    assert told.exit_code == 0
    assert told.stdout.splitlines() == [
        "Ten years. [1][2J",
        "  [1] Invoices · records.md lines 4-6",
        "",
        "run run_1  trace 4bf9",
    ]
    asked = hub.asked[-1]
    assert asked[1] == "/mcp/s/agents"
    assert asked[2]["params"]["arguments"] == {"question": "How long?"}


def test_an_answer_that_comes_as_a_stream_is_read_alike(hub: ScriptedHub) -> None:
    hub.as_stream = True
    assert typed("ask", "librarian", "How long?").stdout.startswith("Ten years.")


def test_an_agent_that_fails_ends_with_five_and_says_where_its_steps_are(hub: ScriptedHub) -> None:
    hub.result = {
        "content": [{"type": "text", "text": "The model is away."}],
        "isError": True,
        "_meta": ANSWER["_meta"],
    }
    told = typed("ask", "librarian", "How long?")
    assert told.exit_code == 5
    assert "The model is away." in told.stdout
    assert "entrepot runs show run_1" in told.stderr


def test_an_agent_that_is_not_there_ends_with_four_and_names_those_that_are(hub: ScriptedHub) -> None:
    told = typed("ask", "historian", "When?")
    assert told.exit_code == 4
    assert "librarian, operator" in told.stderr


def test_a_refusal_of_the_hub_keeps_its_words_and_next_step(hub: ScriptedHub) -> None:
    hub.refuse["/agents"] = (403, {"detail": "Not you.", "code": "forbidden", "owner": "administrator", "hint": "Ask."})
    told = typed("agents", "list", "--json")
    assert told.exit_code == 4
    assert json.loads(told.stderr)["error"] == {
        "message": "Not you.",
        "code": "forbidden",
        "owner": "administrator",
        "hint": "Ask.",
    }


def test_content_that_is_not_text_is_told_not_dumped(hub: ScriptedHub) -> None:
    hub.result = {
        "content": [
            {"type": "resource_link", "name": "plan", "uri": "file:///plan.md"},
            {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
            {"type": "audio", "mimeType": "audio/wav", "data": "not base64!"},
            {"type": "hologram"},
        ]
    }
    told = typed("call", "anything").stdout
    assert told.splitlines() == [
        "[plan] file:///plan.md",
        "[file:///a.txt]",
        "inside",
        "[audio audio/wav, not valid base64]",
        "[hologram]",
    ]


def test_runs_are_listed_and_shown_with_their_steps(hub: ScriptedHub) -> None:
    assert "run_5x1c" in typed("runs", "list").stdout
    shown = typed("runs", "show", "run_5x1c").stdout
    assert "did not answer within 60 s" in shown
    assert "rag/search" in shown


def test_a_manifest_without_a_name_is_refused_here() -> None:
    told = CliRunner().invoke(entrepot, ["agents", "add", "-"], input="description: x\n")
    assert told.exit_code == 1
    assert "name: my-agent" in told.stderr
