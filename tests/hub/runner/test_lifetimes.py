"""What remains of children when they stop, when the runner stops and when it is killed: nothing."""

from __future__ import annotations

import os
import signal
import stat

import anyio
import orjson
import pytest

from tests.hub.runner.harness import Client, RunnerProcess, ready, script, text_of

pytestmark = pytest.mark.anyio

CYCLES = int(os.environ.get("ENTREPOT_TEST_CYCLES", "60"))
"""Open and close cycles of the leak test; 1,000 for the soak."""

STUBBORN = ["sh", "-c", 'trap "" TERM; "$@"; :', "sh"]
"""A wrapper like npx, which ignores SIGTERM, in front of a command."""


async def gone(runner: RunnerProcess, seconds: float) -> None:
    """Wait until every remembered process has ended."""
    with anyio.fail_after(seconds):
        while runner.survivors():
            await anyio.sleep(0.02)


async def family_of_a_stubborn_child(client: Client, runner: RunnerProcess) -> None:
    """A wrapper, a server and two grandchildren, all deaf to SIGTERM."""
    await client.want("wild", [*script("old", "stubborn")])
    session = await client.session("wild")
    assert text_of(await session.call("family")) == "born"
    with anyio.fail_after(10):
        while len(runner.family()) < 4:
            await anyio.sleep(0.02)


async def test_deleting_answers_when_the_whole_tree_is_gone(client: Client, runner: RunnerProcess) -> None:
    await family_of_a_stubborn_child(client, runner)
    assert (await client.http.delete("/children/wild")).status_code == 204
    assert not runner.survivors()
    assert (await client.http.get("/children")).json() == {"children": []}
    assert (await client.http.delete("/children/wild")).status_code == 404


async def test_a_killed_runner_leaves_nobody(client: Client, runner: RunnerProcess) -> None:
    await family_of_a_stubborn_child(client, runner)
    await client.want("web", script("web"), kind="http", start="now")
    assert (await client.http.get("/s/web/x")).status_code == 201
    runner.family()
    runner.end(signal.SIGKILL)
    await gone(runner, 2)


async def test_a_stopped_runner_takes_all_along_within_five_seconds(client: Client, runner: RunnerProcess) -> None:
    await family_of_a_stubborn_child(client, runner)
    assert runner.process is not None
    runner.process.send_signal(signal.SIGTERM)
    with anyio.fail_after(6):
        while runner.process.poll() is None:
            await anyio.sleep(0.05)
    assert runner.process.returncode == 0
    assert not runner.survivors()


async def test_the_wanted_set_survives_a_killed_runner_in_a_private_file(client: Client, runner: RunnerProcess) -> None:
    await client.want("old", script("old"), env={"SOME_TOKEN": "not for others"})
    await client.want("gone", script("old"))
    await client.http.delete("/children/gone")
    await client.http.put("/children/old/replicas", json={"replicas": 2})
    assert stat.S_IMODE((runner.home / "runner.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((runner.home / "run").stat().st_mode) == 0o700
    runner.end(signal.SIGKILL)
    runner.start()
    await ready(client.http)
    kept = (await client.http.get("/children")).json()["children"]
    assert [(child["name"], child["wanted"], child["state"]) for child in kept] == [("old", 2, "idle")]
    assert text_of(await (await client.session("old")).call("echo", text="again")) == "again"


async def test_the_same_spec_keeps_the_process_and_another_replaces_it(client: Client) -> None:
    await client.want("old", script("old"))
    first = text_of(await (await client.session("old")).call("pid"))
    await client.http.put("/children/old/replicas", json={"replicas": 2})
    await client.want("old", script("old"))
    assert (await client.child("old"))["wanted"] == 2
    await client.want("old", script("old"), replicas=1)
    assert text_of(await (await client.session("old")).call("pid")) == first
    await client.want("old", script("old", "other"))
    assert text_of(await (await client.session("old")).call("pid")) != first


async def test_a_lazy_child_stops_when_idle_and_its_sessions_live_on(client: Client) -> None:
    await client.want("old", script("old"), idle_seconds=0.1)
    session = await client.session("old")
    before = text_of(await session.call("pid"))
    with anyio.fail_after(20):
        while (await client.child("old"))["running"]:
            await anyio.sleep(0.1)
    assert text_of(await session.call("pid")) != before


async def test_a_child_for_now_is_running_unasked_and_comes_back(client: Client) -> None:
    await client.want("web", script("web"), kind="http", start="now")
    with anyio.fail_after(20):
        while not (pids := (await client.child("web"))["pids"]):
            await anyio.sleep(0.05)
        os.kill(pids[0], signal.SIGKILL)
        while not (again := (await client.child("web"))["pids"]) or again == pids:
            await anyio.sleep(0.05)
    assert (await client.child("web"))["restarts"] == 1


async def test_a_child_that_keeps_failing_backs_off_and_says_why(client: Client) -> None:
    await client.want("bad", ["sh", "-c", "echo broken >&2; exit 3"])
    body = {"jsonrpc": "2.0", "id": 5, "method": "initialize"}
    with anyio.fail_after(20):
        while (await client.child("bad"))["state"] != "backing-off":
            fault = (await client.http.post("/s/bad/mcp", json=body)).json()["error"]
            assert "exit code 3" in fault["message"]
    assert "'bad'" in (await client.child("bad"))["reason"]


async def test_opening_and_closing_leaves_no_process_and_no_descriptor(client: Client, runner: RunnerProcess) -> None:
    assert runner.process is not None
    descriptors = f"/proc/{runner.process.pid}/fd"
    body = {"jsonrpc": "2.0", "id": 5, "method": "initialize"}
    before = 0
    for cycle in range(CYCLES):
        await client.want("once", [*STUBBORN, "cat"])
        if cycle % 6 == 0:
            await client.want("once", [*STUBBORN, *script("old")], start_seconds=20)
            assert (await client.http.post("/s/once/mcp", json=body)).status_code == 200
            assert runner.family()
        await client.http.delete("/children/once")
        assert not runner.survivors()
        before = before or len(os.listdir(descriptors))
    assert not runner.family()
    assert len(os.listdir(descriptors)) <= before + 3


async def test_an_http_child_is_relayed_both_ways(client: Client) -> None:
    await client.want("web", script("web"), kind="http")
    answer = await client.http.post("/s/web/a/b?c=d", content=b"x" * 300_000)
    assert answer.status_code == 201
    assert answer.headers["x-mark"] == "yes"
    assert answer.text.split(" ", 1)[1] == "POST /a/b?c=d 300000"

    async def pieces():
        for _ in range(4):
            yield b"y" * 1000

    assert (await client.http.put("/s/web/chunks", content=pieces())).text.endswith("PUT /chunks? 4000")


async def test_a_reader_that_leaves_closes_the_stream_of_the_child(client: Client, runner: RunnerProcess) -> None:
    await client.want("web", script("web"), kind="http")
    async with client.http.stream("GET", "/s/web/endless") as response:
        assert await anext(response.aiter_bytes())
    log = runner.home / "logs" / "child-web.log"
    with anyio.fail_after(10):
        while "the reader left" not in log.read_text():
            await anyio.sleep(0.05)


async def test_replicas_of_an_http_child_take_turns(client: Client) -> None:
    await client.want("web", script("web"), kind="http")
    await client.http.put("/children/web/replicas", json={"replicas": 3})
    seen = {(await client.http.get("/s/web/who")).text.split()[0] for _ in range(6)}
    assert len(seen) == 3
    await client.http.put("/children/web/replicas", json={"replicas": 1})
    assert len({(await client.http.get("/s/web/who")).text.split()[0] for _ in range(4)}) == 1


async def test_a_sandboxed_command_streams_and_ends_with_its_exit(client: Client) -> None:
    body = {"profile": "code", "argv": ["sh", "-c", "cat note; echo bad >&2; exit 4"], "files": {"note": "hello"}}
    answer = await client.http.post("/sandboxes", json=body)
    lines = [orjson.loads(line) for line in answer.text.splitlines()]
    assert {"stream": "stdout", "text": "hello"} in lines
    assert lines[-1] == {"exit": 4, "reason": "exit"}
    assert (await client.http.post("/sandboxes", json=body | {"profile": "none"})).status_code == 400


async def test_leaving_a_sandboxed_command_kills_it(client: Client, runner: RunnerProcess) -> None:
    body = {"profile": "code", "argv": ["sh", "-c", "echo up; sleep 600"]}
    async with client.http.stream("POST", "/sandboxes", json=body) as response:
        assert b"up" in await anext(response.aiter_bytes())
        assert runner.family()
    await gone(runner, 5)


async def test_a_server_runs_in_the_sandbox_by_default(client: Client) -> None:
    source = (
        "import sys,json,os\n"
        "for line in sys.stdin:\n"
        " m=json.loads(line)\n"
        " if 'id' in m: print(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':"
        "{'seen':os.path.exists('/etc/shadow'),'home':dict(os.environ).get('ENTREPOT_HOME')}}),flush=True)\n"
    )
    await client.want("boxed", ["python3", "-c", source], sandbox="server")
    body = {"jsonrpc": "2.0", "id": 5, "method": "initialize"}
    answer = await client.http.post("/s/boxed/mcp", json=body)
    assert answer.json()["result"] == {"seen": False, "home": None}


async def test_a_body_that_does_not_fit_is_told_where(client: Client) -> None:
    answer = await client.http.put("/children/x", json={"command": [], "sandbox": "loose"})
    assert answer.status_code == 400
    assert [error["at"] for error in answer.json()["errors"]] == [["command"], ["sandbox"]]
    assert (await client.http.put("/children/..", json={"command": ["a"]})).status_code in (400, 404)
