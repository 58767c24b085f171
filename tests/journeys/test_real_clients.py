"""Clients and servers that no one here wrote, through one installation, unchanged.

The servers run as a user's would: fetched by npx and uv, sandboxed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from fastmcp import Client as FastClient
from fastmcp.client.transports import StreamableHttpTransport
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.test import TestModel

from tests.support import realpeers
from tests.support.installation import Installation, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

SECONDS = 60
OLD_CLIENT = Path(__file__).with_name("old_sdk_client.py")


@dataclass(frozen=True)
class Real:
    """An installation and a key for it; without the key where everybody on the machine is let in."""

    hub: Installation
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def at(self, path: str = "/mcp") -> str:
        return f"{self.hub.url}{path}"

    def call(self, tool: str, **arguments: Any) -> str:
        """What a tool answers on the command line."""
        return self.hub.run("call", tool, json.dumps(arguments), code=0).stdout


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Generator[Real]:
    """One installation for this module, with the server that offers everything of the protocol."""
    realpeers.need_registry("npm")
    with installed(tmp_path_factory.mktemp("real")) as hub:
        add(hub, "everything", "--package", realpeers.EVERYTHING)
        yield Real(hub, hub.token())


@pytest.fixture(scope="module")
def folder(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `files` and `repository`, each granted to one of the four servers that are added to the installation."""
    realpeers.need_registry("pypi")
    granted = tmp_path_factory.mktemp("granted")
    files, repository = granted / "files", granted / "repository"
    files.mkdir()
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / "draft.txt").write_text("not committed\n")
    ways = {
        "files": ("--write", str(files), "--package", realpeers.FILESYSTEM, str(files)),
        "memory": ("--package", realpeers.MEMORY),
        "time": ("--package", realpeers.TIME, *realpeers.BEFORE_2),
        "git": ("--write", str(repository), "--chown", "--package", realpeers.GIT, *realpeers.BEFORE_2),
    }
    with ThreadPoolExecutor(len(ways)) as pool:
        adding = [pool.submit(add, real.hub, name, *way) for name, way in ways.items()]
    for one in adding:
        one.result()
    return granted


def add(hub: Installation, name: str, *way: str) -> None:
    """Add a server as a user would: fetched and sandboxed, or not at all."""
    server = hub.json("servers", "add", name, *way)
    assert (server["state"], server["sandbox"]) == ("ready", "server")


@pytest.mark.anyio
async def test_the_sdk_of_today_uses_everything_of_a_server_in_the_old_era(real: Real) -> None:
    asked: list[str] = []
    steps_done: list[float] = []

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        asked.append("elicitation")
        return types.ElicitResult(action="decline")

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        asked.append("sampling")
        text = types.TextContent(type="text", text="a sample")
        return types.CreateMessageResult(role="assistant", content=text, model="none")

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps_done.append(progress)

    with anyio.fail_after(SECONDS):
        async with (
            httpx2.AsyncClient(headers=real.headers, timeout=SECONDS) as http,
            Client(
                streamable_http_client(real.at(), http_client=http),
                mode="legacy",
                elicitation_callback=elicit,
                sampling_callback=sample,
            ) as client,
        ):
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert {"echo", "get-structured-content", "trigger-long-running-operation"} <= tools
            assert text_of(await client.call_tool("echo", {"message": "hi"})) == "Echo: hi"
            steps = {"duration": 0.2, "steps": 3}
            await client.call_tool("trigger-long-running-operation", steps, progress_callback=on_progress)
            await client.call_tool("trigger-elicitation-request", {})
            await client.call_tool("trigger-sampling-request", {"prompt": "x", "maxTokens": 5})
            first = (await client.list_resources()).resources[0]
            assert (await client.read_resource(first.uri)).contents
            assert (await client.get_prompt("simple-prompt")).messages
            wanted = types.PromptReference(type="ref/prompt", name="completable-prompt")
            completed = await client.complete(wanted, {"name": "department", "value": "E"})
            assert completed.completion.values == ["Engineering"]
    assert asked == ["elicitation", "sampling"]
    assert len(steps_done) == 3


@pytest.mark.anyio
async def test_the_sdk_of_today_uses_old_servers_in_the_new_era(real: Real) -> None:
    with anyio.fail_after(SECONDS):
        async with (
            httpx2.AsyncClient(headers=real.headers, timeout=SECONDS) as http,
            Client(streamable_http_client(real.at(), http_client=http), mode="2026-07-28") as client,
        ):
            assert client.protocol_version == "2026-07-28"
            assert text_of(await client.call_tool("echo", {"message": "hi"})) == "Echo: hi"
            assert (await client.get_prompt("simple-prompt")).messages
            first = (await client.list_resources()).resources[0]
            assert (await client.read_resource(first.uri)).contents


@pytest.mark.parametrize("path", ["/mcp", "/mcp/s/everything"])
def test_the_sdk_of_yesterday_works_unchanged(real: Real, path: str) -> None:
    uses_everything(real, path)


@pytest.mark.anyio
async def test_fastmcp_works_unchanged(real: Real) -> None:
    with anyio.fail_after(SECONDS):
        async with FastClient(StreamableHttpTransport(real.at(), headers=real.headers)) as client:
            assert len(await client.list_tools()) >= 10
            answer = await client.call_tool("get-structured-content", {"location": "Chicago"})
            assert answer.structured_content is not None
            assert await client.list_prompts()


@pytest.mark.anyio
async def test_a_pydantic_ai_agent_calls_tools_through_the_hub(real: Real) -> None:
    toolset = MCPToolset[None](real.at("/mcp/s/everything"), headers=real.headers)
    agent = Agent(TestModel(call_tools=["echo"]), deps_type=type(None), toolsets=[toolset])
    with anyio.fail_after(SECONDS):
        run = await agent.run("say something")
    assert "Echo:" in run.output


def test_the_inspector_works_unchanged(real: Real) -> None:
    listed = realpeers.inspector(real.at(), real.token, "--method", "tools/list")
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["tools"]) >= 10
    wanted = ("--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi")
    called = realpeers.inspector(real.at("/mcp/s/everything"), real.token, *wanted)
    assert "Echo: hi" in called.stdout, called.stderr


def test_clients_without_a_key_work_at_an_open_hub_that_stands_before_another(
    real: Real, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with installed(tmp_path_factory.mktemp("open"), "--bare", "--open") as hub:
        key = f"Authorization: Bearer {real.token}"
        hub.run("servers", "add", "everything", "--header", key, real.at("/mcp/s/everything"), code=0)
        uses_everything(Real(hub), "/mcp")
        listed = realpeers.inspector(f"{hub.url}/mcp", "", "--method", "tools/list")
        assert "echo" in listed.stdout, listed.stderr


def test_a_file_server_sees_the_folder_it_was_granted_and_nothing_else(real: Real, folder: Path) -> None:
    made = folder / "files" / "made.txt"
    real.call("write_file", path=str(made), content="made through the hub")
    assert made.read_text() == "made through the hub"
    assert "made through" in real.call("read_text_file", path=str(made))
    outside = json.dumps({"path": str(folder / "repository" / "draft.txt")})
    assert real.hub.run("call", "read_text_file", outside).returncode != 0


def test_a_folder_with_files_changes_its_owner_only_when_told_to(
    real: Real, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.geteuid():
        pytest.skip("only root gives folders away")
    taken = tmp_path_factory.mktemp("taken")
    (taken / "mine.txt").touch()
    told = real.hub.run("servers", "add", "taker", "--write", str(taken), "--stdio", "cat")
    assert told.returncode != 0
    assert "--chown" in told.stderr
    assert (taken / "mine.txt").stat().st_uid == taken.stat().st_uid == 0


def test_a_git_server_changes_the_repository_it_was_granted(real: Real, folder: Path) -> None:
    repository = str(folder / "repository")
    assert "draft.txt" in real.call("git_status", repo_path=repository)
    real.call("git_add", repo_path=repository, files=["draft.txt"])
    assert "not committed" in real.call("git_diff_staged", repo_path=repository)


def test_python_servers_run_with_the_sdk_that_their_package_forgot_to_pin(real: Real, folder: Path) -> None:
    told = real.call("convert_time", source_timezone="UTC", time="10:00", target_timezone="Asia/Tokyo")
    assert "19:00:00+09:00" in told


def test_a_memory_server_remembers_between_calls(real: Real, folder: Path) -> None:
    entity = {"name": "hub", "entityType": "program", "observations": ["relays"]}
    real.call("create_entities", entities=[entity])
    assert "relays" in real.call("read_graph")


def uses_everything(real: Real, path: str) -> None:
    """Drive all that the SDK's first version can do, in an interpreter of its own."""
    ran = subprocess.run(
        [str(realpeers.old_sdk()), "-I", str(OLD_CLIENT), real.at(path), real.token],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    met = json.loads(ran.stdout)
    assert met["protocol"] == "2025-11-25"
    assert (met["echo"], met["progress"], met["completion"]) == ("Echo: hello", 4, ["Engineering"])
    assert met["asked"] == ["elicitation", "sampling"]


def text_of(result: Any) -> str:
    """The text of a result's first content."""
    return result.content[0].text
