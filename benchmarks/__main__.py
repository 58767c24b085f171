"""`python -m benchmarks`: measure the hub beside a direct call and the floor; print tables, write results.json."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import hub, machine, measure, plot, report
from benchmarks.cases import TOOLS, Case, World, cases
from benchmarks.measure import Round, System

HERE = Path(__file__).parent
FLOOR_TOKEN = "a-token-of-the-bench"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute: short windows, one round")
    parser.add_argument("--plot", action="store_true", help="more connection counts, and two drawings (SVG)")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of a window (1.0; quick: 0.5)")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of a row (3; quick: 1)")
    parser.add_argument("--cpu", default="auto", help="bind everything to one CPU: auto, its number, or none")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and the drawings")
    arguments = parser.parse_args()

    connections = (1, 16) if arguments.quick else (1, 4, 16, 32, 64) if arguments.plot else (1, 16, 64)
    wanted = [one for one in cases(connections, quick=arguments.quick) if arguments.only in one.key]
    seconds = arguments.seconds or (0.5 if arguments.quick else 1.0)
    count = arguments.rounds or (1 if arguments.quick else 3)
    cpus = machine.settle_on(arguments.cpu)
    about = machine.describe(cpus)
    about["date"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    about["command"] = " ".join(["python -m benchmarks", *sys.argv[1:]])

    taken = run(wanted, seconds, count, cpus)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = report.rows(wanted, taken)
    written = {"about": about, "rows": rows, "rounds": {key: measure.plain(one) for key, one in taken.items()}}
    (arguments.out / "results.json").write_text(json.dumps(written, indent=1) + "\n")
    print(report.markdown(about, rows))
    if arguments.plot:
        for name, drawing in plot.drawings(rows).items():
            (arguments.out / name).write_text(drawing)
    return 0


def run(wanted: list[Case], seconds: float, count: int, cpus: list[int]) -> dict[str, list[Round]]:
    """All rounds of all cases, by the case's key; one hub at a time, one for each of the surroundings."""
    taken: dict[str, list[Round]] = {}
    worlds: list[World] = [world for world in TOOLS if any(one.world == world for one in wanted)]
    for world in worlds:
        with ExitStack() as stack:
            systems_of = Surroundings(stack, world)
            for case in (one for one in wanted if one.world == world):
                systems, ours = systems_of(case, seconds)
                print(f"· {case.name}, {case.load.era}, {case.load.connections}", file=sys.stderr, flush=True)
                taken[case.key] = measure.rounds(systems, count, cpus, ours)
    return taken


class Surroundings:
    """The processes of one world: a mock server, the floor before it, and a hub that knows it."""

    def __init__(self, stack: ExitStack, world: World) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="entrepot-floor-")))
        self._mock = stack.enter_context(machine.helper("mock"))
        self._direct = f"http://127.0.0.1:{self._mock.port}/{TOOLS[world]}/mcp"
        told = ["--token", FLOOR_TOKEN, "--database", str(folder / "audit.db")]
        for tool in ("echo", "big", "ticks"):
            told += ["--allow", tool]
        self._floor = stack.enter_context(machine.helper("floor", self._direct, *told))
        self._hub = stack.enter_context(hub.running())
        self._names: dict[str, str] = {}
        if world == "stdio":
            script = str(HERE / "mock.py")
            self._hub.command(
                "servers", "add", "local", "--sandbox", "trusted", "--stdio", sys.executable, script, "--stdio"
            )
        elif world == "many":
            base = f"http://127.0.0.1:{self._mock.port}/{TOOLS[world]}"
            self._hub.add({f"server{number}": f"{base}/{number}/mcp" for number in range(20)})
        else:
            self._hub.add({"mock": self._direct})

    def __call__(self, case: Case, seconds: float) -> tuple[list[System], list[int]]:
        """The three systems of a case, and the processes that are ours."""
        tool = case.tool
        if tool and tool not in self._names:
            self._names[tool] = self._hub.exposed(tool)
        exposed = self._names.get(tool, "")
        floor = f"http://127.0.0.1:{self._floor.port}/mcp"
        systems = [
            System("direct", 0, case.at(self._direct, "", tool, seconds)),
            System("floor", self._floor.pid, case.at(floor, FLOOR_TOKEN, tool, seconds)),
            System("hub", self._hub.pid, case.at(self._hub.url, self._hub.token, exposed, seconds)),
        ]
        return systems, [self._mock.pid, self._floor.pid, self._hub.pid]


if __name__ == "__main__":
    sys.exit(main())
