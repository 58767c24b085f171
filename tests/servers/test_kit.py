"""What every bundled server promises: both eras, three transports, bounds, errors that say who must act, quiet logs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from servers.databases.server import application as databases
from servers.kit import Application, BundledServer, Environment, Fault, JsonLines, SettingsFault, http_app
from servers.logs.server import application as logs
from servers.rag.server import application as rag
from servers.scaling.server import application as scaling

ROOT = Path(__file__).parents[2]
MODES = ["legacy", "2026-07-28"]
MAKERS = {"logs": logs, "scaling": scaling, "databases": databases, "rag": rag}
TOOLS = {
    "logs": {"search_logs", "tail_logs", "log_statistics", "list_log_sources"},
    "scaling": {"list_replicas", "get_replicas", "plan_scaling", "scale"},
    "databases": {"list_databases", "list_tables", "describe_table", "query", "explain_query"},
    "rag": {"search_documents", "get_document", "list_documents", "ingest", "remove_document"},
}
pytestmark = pytest.mark.anyio


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ENTREPOT_STATE_DIR": str(tmp_path / "state"), **more}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("name", sorted(TOOLS))
async def test_each_server_runs_alone_over_stdio_in_both_eras(name: str, mode: str, tmp_path: Path) -> None:
    started = time.monotonic()
    server = StdioServerParameters(
        command=sys.executable, args=["-m", f"servers.{name}"], env=environment(tmp_path), cwd=str(ROOT)
    )
    with anyio.fail_after(30):
        async with Client(server, mode=mode) as client:
            listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == TOOLS[name]
    assert (client_seconds := time.monotonic() - started) < 15, client_seconds


@pytest.mark.parametrize("name", sorted(TOOLS))
async def test_each_tool_is_described_for_a_model_with_bounds_and_an_output_schema(name: str, tmp_path: Path) -> None:
    application = MAKERS[name](Environment(environment(tmp_path)))
    async with Client(application.server) as client:
        tools = (await client.list_tools()).tools
    for tool in tools:
        assert tool.title and tool.description and len(tool.description) > 40
        assert tool.output_schema and tool.annotations
        hints = tool.annotations
        assert None not in (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        for argument, schema in tool.input_schema.get("properties", {}).items():
            assert "description" in schema, (tool.name, argument)
            for form in schema.get("anyOf", [schema]):
                if form.get("type") in ("integer", "string") and "enum" not in form:
                    bounds = {"maximum", "maxLength", "pattern", "enum"}
                    assert bounds & set(form), (tool.name, argument)


async def test_a_server_answers_on_a_unix_socket_and_refuses_foreign_hosts_and_origins(tmp_path: Path) -> None:
    address = tmp_path / "s.sock"
    process = await anyio.open_process(
        [sys.executable, "-m", "servers.scaling", "--uds", str(address)], env=environment(tmp_path), cwd=ROOT, stderr=-3
    )
    try:
        with anyio.fail_after(20):
            while not address.exists():
                await anyio.sleep(0.02)
            assert address.stat().st_mode & 0o777 == 0o600
            transport = httpx.AsyncHTTPTransport(uds=str(address), retries=3)
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get("http://runner/readyz")).status_code == 200
                for host in ("runner", "localhost"):
                    assert (await _initialize(client, f"http://{host}/mcp")).status_code == 200
                assert (await _initialize(client, "http://evil.example/mcp")).status_code == 421
                refused = await _initialize(client, "http://localhost/mcp", origin="http://evil.example")
                assert refused.status_code == 403
    finally:
        process.terminate()
        with anyio.fail_after(10):
            assert await process.wait() in (0, -15)
        await process.aclose()
    assert not address.exists()


async def _initialize(client: httpx.AsyncClient, url: str, **headers: str) -> httpx.Response:
    params: dict[str, Any] = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    accept = {"accept": "application/json, text/event-stream"}
    return await client.post(url, json=body, headers=accept | headers)


@pytest.mark.parametrize("mode", MODES)
async def test_a_crash_gives_an_id_whose_details_stand_only_in_the_log(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = BundledServer("trial")

    async def broken(word: str) -> str:
        raise RuntimeError(f"secret detail {word}")

    async def refuses() -> str:
        raise Fault("The door is shut.", code="shut", owner="administrator", hint="Open it.")

    server.add_tool(broken)
    server.add_tool(refuses)
    caplog.set_level(logging.INFO)
    async with Client(server, mode=mode) as client:
        crash = await client.call_tool("broken", {"word": "hunter2"})
        known = await client.call_tool("refuses", {})
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("nothing", {})
    text = crash.content[0].text  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
    assert crash.is_error and "Error id: " in text and "secret detail" not in text
    number = str(text).split("Error id: ")[1][:12]  # pyright: ignore[reportUnknownArgumentType]
    lines = [JsonLines().format(record) for record in caplog.records]
    assert any(number in line and "RuntimeError" in line for line in lines)
    assert not any("hunter2" in line for line in lines)
    assert all(json.loads(line)["level"] for line in lines)
    assert known.is_error and known.meta
    assert known.meta["dev.entrepot/error"] == {"code": "shut", "owner": "administrator", "hint": "Open it."}


async def test_help_names_every_variable_and_bad_settings_end_with_code_2(tmp_path: Path) -> None:
    base = [sys.executable, "-m", "servers.scaling"]
    shown = subprocess.run(
        [*base, "--help"], capture_output=True, text=True, env=environment(tmp_path), cwd=ROOT, check=True
    )
    assert "ENTREPOT_SCALING_MAX" in shown.stdout and "--uds" in shown.stdout
    env = environment(tmp_path, ENTREPOT_SCALING_MAX="many")
    bad = subprocess.run(base, capture_output=True, text=True, env=env, cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    assert bad.returncode == 2 and "ENTREPOT_SCALING_MAX" in bad.stderr
    remote = subprocess.run(
        [*base, "--http", "0.0.0.0:1"], capture_output=True, text=True, env=environment(tmp_path), cwd=ROOT, check=False
    )
    assert remote.returncode == 2 and "loopback" in remote.stderr


def test_a_number_out_of_its_bounds_is_named() -> None:
    with pytest.raises(SettingsFault, match="X must be from 1 to 5"):
        Environment({"X": "9"}).number("X", 1, 1, 5)


def test_the_application_is_made_without_touching_the_disk(tmp_path: Path) -> None:
    made = rag(Environment(environment(tmp_path)))
    assert isinstance(made, Application) and http_app(made.server) is not None
    assert not (tmp_path / "state").exists()
