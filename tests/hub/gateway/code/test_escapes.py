"""What a hostile program tries: to get out, to use more than its share, to call what it may not, to break the hub."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hub.gateway.code.sandbox import Bounds, Printed, Sandbox
from tests.hub.gateway.code.conftest import Shop, run
from tests.support.hub import RunningHub, running_hub

pytestmark = pytest.mark.anyio

WAYS_OUT = {
    "a file": "open('/etc/passwd').read()",
    "a file by pathlib": "from pathlib import Path\nPath('/etc/passwd').read_text()",
    "a written file": "open('/tmp/escaped', 'w').write('x')",
    "a listing": "import os\nos.listdir('/')",
    "the environment": "import os\nos.environ['PATH']",
    "a variable": "import os\nos.getenv('PATH') or 1 / 0",
    "a command": "import os\nos.system('id')",
    "a process": "import subprocess\nsubprocess.run(['id'])",
    "a fork": "import os\nos.fork()",
    "a socket": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "a request": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "C": "import ctypes\nctypes.CDLL(None)",
    "the hub": "import hub.settings",
    "an import by hand": "__import__('os').system('id')",
    "importlib": "import importlib\nimportlib.import_module('os')",
    "exec": "exec('import subprocess')",
    "eval": 'eval("open")("/etc/passwd").read()',
    "compile": "compile('1', 'x', 'eval')",
    "classes of all": "().__class__.__bases__[0].__subclasses__()",
    "builtins": "__builtins__.open('/etc/passwd')",
    "globals of a function": "(lambda: 1).__globals__['x']",
    "frames": "import sys\nsys._getframe().f_back",
    "a tool's globals": "import shop\nshop.get_order.__globals__",
    "a tool's code": "import shop\nshop.get_order.__code__",
    "a tool's self": "import shop\nshop.get_order.__self__",
    "the module's loader": "import shop\nshop.__loader__",
    "a made-up call": "await external('shop.write_report', text='x')",
    "signals": "import signal\nsignal.raise_signal(9)",
    "threads": "import threading\nthreading.Thread(target=print).start()",
    "pickle": "import pickle\npickle.loads(b'')",
}

TOO_MUCH = {
    "computing": ("while True: pass", "time limit"),
    "memory": ("x = []\nwhile True: x.append('y' * 100000)", "memory"),
    "memory at once": ("'x' * 10**11", "memory"),
    "a large integer": ("2 ** (10 ** 10)", "memory"),
    "recursion": ("def f(): return f()\nf()", "recursion"),
    "nesting": ("(" * 5000 + ")" * 5000, "nested"),
    "sleep": ("import time\nfor n in range(9): time.sleep(100)", "sleep"),
    "a pattern": ("import re\nre.match('(a+)+$', 'a' * 40 + 'b')", ""),
}


async def test_no_way_leads_out(running: RunningHub, shop: Shop) -> None:
    for what, code in WAYS_OUT.items():
        # Once past the type checker, once by a text that it does not see.
        answer = await run(running, code)
        unseen = await run(running, f"import shop\nexec({code!r})")
        assert unseen.startswith("!Traceback"), f"{what}: {unseen}"
        assert "root:" not in unseen, what
        assert answer.startswith("!"), f"{what}: {answer}"
        assert "root:" not in answer and str(running.hub.settings.home) not in answer, what
    assert not Path("/tmp/escaped").exists()
    assert not shop.reports


async def test_what_is_too_much_ends_and_the_next_program_runs(tmp_path: Path) -> None:
    async with running_hub(tmp_path, code_cpu_seconds=0.3, code_seconds=20) as running:
        for what, (code, word) in TOO_MUCH.items():
            began = time.monotonic()
            answer = await run(running, code)
            assert word.lower() in answer.lower(), f"{what}: {answer}"
            assert time.monotonic() - began < 15, what
            assert await run(running, "1 + 1") == "2", what


async def test_output_is_cut_and_says_so(tmp_path: Path) -> None:
    async with running_hub(tmp_path, code_output_bytes=1024, code_cpu_seconds=0.3) as running:
        assert "[cut: a program's output is 1024 characters at most" in await run(running, "'x' * 5000")
        assert len(await run(running, "x = 'a' * 1000\nfor _ in range(8): x = [x] * 20\nx")) < 1300
        printed = await run(running, "for n in range(5000): print(n)\n'end'")
        assert "more characters were printed; 1024 are shown]" in printed and printed.endswith("end")
        flood = await run(running, "while True: print('x' * 1000)")
        assert flood.startswith("!") and len(flood) < 2500


async def test_calls_and_time_have_bounds(tmp_path: Path) -> None:
    async with running_hub(tmp_path, code_calls=3, code_seconds=1) as running:
        await running.everything()
        code = "import everything\nfor n in range(9): await everything.echo(text=str(n))"
        answer = await run(running, code)
        assert "a program may make 3 calls" in answer and "everything.echo ×3" in answer
        large = "import everything\nx = ['a' * 100000] * 20\nawait everything.echo(text=str(x))"
        assert "larger than" in await run(running, large)
        waiting = await run(running, "import everything\nawait everything.wait()")
        assert "took longer than 1 seconds" in waiting


async def test_a_killed_interpreter_costs_only_its_program(anyio_backend: str) -> None:
    sandbox = Sandbox(Bounds(processes=1, seconds=30))
    try:
        async with sandbox.stay({}, Printed(1000)) as stay:
            assert stay.pid is not None
            spinning = asyncio.create_task(stay.start("while True: pass"))
            await asyncio.sleep(0)
            os.kill(stay.pid, signal.SIGKILL)
            with pytest.raises(Exception, match=r"crash|terminated|exited|signal"):
                async with asyncio.timeout(10):
                    await spinning
        async with sandbox.stay({}, Printed(1000)) as stay:
            assert repr(await stay.start("1 + 1")) == "MontyComplete(output=2)"
    finally:
        await sandbox.close()


async def test_a_cancelled_program_gives_its_place_back_at_once(anyio_backend: str) -> None:
    sandbox = Sandbox(Bounds(processes=1, seconds=30))

    async def spin() -> None:
        async with sandbox.stay({}, Printed(1000)) as stay:
            await stay.start("while True: pass")

    try:
        for _ in range(3):
            task = asyncio.create_task(spin())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.shield(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(5), sandbox.stay({}, Printed(1000)) as stay:
            await stay.start("1")
    finally:
        await sandbox.close()


ORPHAN = """
import asyncio, os, signal
from hub.gateway.code.sandbox import Bounds, Printed, Sandbox

async def main():
    sandbox = Sandbox(Bounds(seconds=1))
    async with sandbox.stay({}, Printed(1000)) as stay:
        print(stay.pid, flush=True)
        task = asyncio.create_task(stay.start("while True: pass"))
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_no_interpreter_outlives_a_killed_worker_for_long(anyio_backend: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        assert worker.stdout is not None
        pid = int(await asyncio.to_thread(worker.stdout.readline))
        async with asyncio.timeout(10):
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.05)
