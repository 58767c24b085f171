"""Clients and servers that no one here wrote, through one installation, unchanged.

The servers run as a user's would: fetched by npx and uv, sandboxed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from fastmcp import Client as FastClient
from fastmcp.client.transports import StreamableHttpTransport
from mcp import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.test import TestModel

from tests.support import realpeers
from tests.support.installation import Installation, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

OLD_CLIENT = Path(__file__).with_name("old_sdk_client.py")


@dataclass(frozen=True)
class Real:
    """An installation with the real servers, a key for it and the folder that was granted."""

    hub: Installation
    token: str
    folder: Path

    def at(self, path: str = "/mcp") -> str:
        return f"{self.hub.url}{path}"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Generator[Real]:
    """All five servers, sandboxed."""
    realpeers.need_registry("npm")
    realpeers.need_registry("pypi")
    folder = tmp_path_factory.mktemp("granted")
    (folder / "note.txt").write_text("a note\n")
    folder.chmod(0o755)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    ways = {
        "everything": ("--package", realpeers.EVERYTHING),
        "files": ("--write", str(folder), "--package", realpeers.FILESYSTEM, str(folder)),
        "memory": ("--package", realpeers.MEMORY),
        "time": ("--package", realpeers.TIME, *realpeers.BEFORE_2),
        "git": ("--package", realpeers.GIT, *realpeers.BEFORE_2),
    }
    with installed(tmp_path_factory.mktemp("real")) as hub, ThreadPoolExecutor(2) as pool:
        added = pool.map(lambda name: hub.json("servers", "add", name, *ways[name]), ways)
        assert {server["name"]: (server["state"], server["sandbox"]) for server in added} == dict.fromkeys(
            ways, ("ready", "server")
        )
        yield Real(hub, hub.token(), folder)


def call(real: Real, tool: str, **arguments: Any) -> str:
    """What a tool answers on the command line."""
    return real.hub.run("call", tool, json.dumps(arguments), code=0).stdout


def test_a_file_server_sees_the_folder_it_was_granted_and_nothing_else(real: Real) -> None:
    assert "a note" in call(real, "read_text_file", path=str(real.folder / "note.txt"))
    call(real, "write_file", path=str(real.folder / "made.txt"), content="made through the hub")
    assert (real.folder / "made.txt").read_text() == "made through the hub"
    assert real.hub.run("call", "read_text_file", json.dumps({"path": "/etc/passwd"})).returncode != 0


def test_a_python_server_answers_with_an_sdk_that_its_package_forgot_to_pin(real: Real) -> None:
    told = call(real, "convert_time", source_timezone="UTC", time="10:00", target_timezone="Asia/Tokyo")
    assert "19:00:00+09:00" in told


def test_a_memory_server_remembers_between_calls(real: Real) -> None:
    entity = {"name": "hub", "entityType": "program", "observations": ["relays"]}
    call(real, "create_entities", entities=[entity])
    assert "relays" in call(real, "read_graph")


@pytest.mark.anyio
async def test_the_sdk_of_today_uses_everything_of_a_server_in_the_old_era(real: Real) -> None:
    asked: list[str] = []
    progress: list[float] = []

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        asked.append("elicitation")
        return types.ElicitResult(action="decline")

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        asked.append("sampling")
        text = types.TextContent(type="text", text="a sample")
        return types.CreateMessageResult(role="assistant", content=text, model="none")

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    with anyio.fail_after(60):
        async with (
            create_mcp_http_client(headers={"authorization": f"Bearer {real.token}"}) as http,
            Client(
                streamable_http_client(real.at(), http_client=http),
                mode="legacy",
                elicitation_callback=elicit,
                sampling_callback=sample,
            ) as client,
        ):
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert {"echo", "read_graph", "convert_time", "git_status", "list_directory"} <= tools
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
    assert len(progress) == 3


@pytest.mark.anyio
async def test_the_sdk_of_today_uses_old_servers_in_the_new_era(real: Real) -> None:
    with anyio.fail_after(60):
        async with (
            create_mcp_http_client(headers={"authorization": f"Bearer {real.token}"}) as http,
            Client(streamable_http_client(real.at(), http_client=http), mode="2026-07-28") as client,
        ):
            assert client.protocol_version == "2026-07-28"
            assert text_of(await client.call_tool("echo", {"message": "hi"})) == "Echo: hi"
            assert (await client.get_prompt("simple-prompt")).messages
            first = (await client.list_resources()).resources[0]
            assert (await client.read_resource(first.uri)).contents


@pytest.mark.parametrize("path", ["/mcp", "/mcp/s/everything"])
def test_the_sdk_of_yesterday_works_unchanged(real: Real, path: str) -> None:
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


@pytest.mark.anyio
async def test_fastmcp_works_unchanged(real: Real) -> None:
    with anyio.fail_after(60):
        async with FastClient(
            StreamableHttpTransport(real.at(), headers={"authorization": f"Bearer {real.token}"})
        ) as client:
            assert len(await client.list_tools()) > 40
            answer = await client.call_tool("get-structured-content", {"location": "Chicago"})
            assert answer.structured_content is not None
            assert await client.list_prompts()


@pytest.mark.anyio
async def test_a_pydantic_ai_agent_calls_tools_through_the_hub(real: Real) -> None:
    toolset = MCPToolset[None](real.at("/mcp/s/everything"), headers={"authorization": f"Bearer {real.token}"})
    agent = Agent(TestModel(call_tools=["echo"]), toolsets=[toolset])
    with anyio.fail_after(60):
        run = await agent.run("say something")
    assert "Echo:" in run.output


def test_the_inspector_works_unchanged(real: Real) -> None:
    listed = realpeers.inspector(real.at(), real.token, "--method", "tools/list")
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["tools"]) > 40
    wanted = ("--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi")
    called = realpeers.inspector(real.at("/mcp/s/everything"), real.token, *wanted)
    assert "Echo: hi" in called.stdout, called.stderr


def text_of(result: Any) -> str:
    """The text of a result's first content."""
    return result.content[0].text
