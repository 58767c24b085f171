"""`python -m benchmarks`: the hub beside a direct call and a plain nginx, and single figures; a report with plots.

Writes RESULTS.md, results.json and two drawings into `--out` after every row, so that `--resume` goes on where a run
was broken off. `--only` chooses rows and probes by a part of their name, `--list` shows them all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import hub, machine, measure, nginx, plot, report
from benchmarks.cases import SERVERS, TOOLS, WORKERS, Case, World, cases
from benchmarks.hub import Hub
from benchmarks.measure import Round, System, Window
from benchmarks.probes import PROBES
from benchmarks.soak.scenario import Finding

HERE = Path(__file__).parent


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes: short windows, one round, no probes")
    parser.add_argument("--only", default="", help="rows and probes whose name holds this")
    parser.add_argument("--list", action="store_true", help="say which rows and probes there are")
    parser.add_argument("--resume", action="store_true", help="keep what results.json has of this commit already")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of a window (1.0; quick: 0.5)")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of a row (2; quick: 1)")
    parser.add_argument("--cpu", default="auto", help="bind everything to one CPU: auto, its number, or none")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the report, results.json and the drawings")
    arguments = parser.parse_args()

    connections = (1, 16) if arguments.quick else (1, 4, 16, 32, 64)
    wanted = [one for one in cases(connections, quick=arguments.quick) if arguments.only in one.key]
    probes = [one for one in PROBES if arguments.only in one.name and not arguments.quick]
    if arguments.list:
        print(*(one.key for one in wanted), *(f"{one.name}: {one.about}" for one in probes), sep="\n")
        return 0
    cpus = machine.settle_on(arguments.cpu)
    about = machine.describe(cpus) | {"command": " ".join(["python -m benchmarks", *sys.argv[1:]])}
    about["date"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if not nginx.found():
        about["nginx"] = nginx.MISSING
        print(nginx.MISSING, file=sys.stderr)
    book = Book(arguments.out, about, wanted, cpus)
    if arguments.resume:
        book.read()
    seconds = arguments.seconds or (0.5 if arguments.quick else 1.0)
    run(book, seconds, arguments.rounds or (1 if arguments.quick else 2))
    for probe in probes:
        if probe.name not in book.probed:
            print(f"· {probe.name}", file=sys.stderr, flush=True)
            book.probed[probe.name] = probe.run()
            book.write()
    print(book.markdown())
    return 0


@dataclass
class Book:
    """What was taken so far, written down after every row."""

    out: Path
    about: dict[str, str]
    cases: Sequence[Case]
    cpus: list[int]
    taken: dict[str, list[Round]] = field(default_factory=dict[str, list[Round]])
    probed: dict[str, Sequence[Finding]] = field(default_factory=dict[str, Sequence[Finding]])

    def markdown(self) -> str:
        """The report."""
        return report.markdown(self.about, report.rows(self.cases, self.taken), self.probed)

    def write(self) -> None:
        """Everything into the folder."""
        self.out.mkdir(parents=True, exist_ok=True)
        rows = report.rows(self.cases, self.taken)
        rounds = {key: measure.plain(one) for key, one in self.taken.items()}
        probed = {name: [asdict(one) for one in findings] for name, findings in self.probed.items()}
        told = {"about": self.about, "rows": rows, "rounds": rounds, "probed": probed}
        (self.out / "results.json").write_text(json.dumps(told, indent=1) + "\n")
        (self.out / "RESULTS.md").write_text(self.markdown())
        for name, drawing in plot.drawings(rows).items():
            (self.out / name).write_text(drawing)

    def read(self) -> None:
        """Take over what an earlier run of the same commit wrote."""
        try:
            told: dict[str, Any] = json.loads((self.out / "results.json").read_text())
        except (OSError, json.JSONDecodeError):
            return
        if told["about"]["commit"] != self.about["commit"]:
            return
        for key, rounds in told["rounds"].items():
            self.taken[key] = [{name: Window(**window) for name, window in one.items()} for one in rounds]
        self.probed = {name: [Finding(**one) for one in findings] for name, findings in told["probed"].items()}


def run(book: Book, seconds: float, count: int) -> None:
    """All rounds of all cases that are not in the book; one world of processes at a time."""
    due = [one for one in book.cases if one.key not in book.taken]
    for world in TOOLS:
        if not any(one.world == world for one in due):
            continue
        with ExitStack() as stack:
            surroundings = Surroundings(stack, world)
            for case in (one for one in due if one.world == world):
                print(f"· {case.name}, {case.load.era}, {case.load.connections}", file=sys.stderr, flush=True)
                book.taken[case.key] = measure.rounds(
                    surroundings.systems(case, seconds), count, book.cpus, surroundings.ours
                )
                book.write()


class Surroundings:
    """The processes of one world: a mock server, nginx before it, and a hub that knows it."""

    def __init__(self, stack: ExitStack, world: World) -> None:
        self._mock = stack.enter_context(machine.helper("mock"))
        base = f"http://127.0.0.1:{self._mock.port}/{TOOLS[world]}"
        self._direct = f"{base}/mcp"
        self._nginx = stack.enter_context(nginx.before(self._direct))
        self._hub = stack.enter_context(hub.running(WORKERS.get(world, 1)))
        self._small: Hub | None = None
        self._names: dict[tuple[int, str], str] = {}
        if world == "stdio":
            script = str(HERE / "mock.py")
            self._hub.command(
                "servers", "add", "local", "--sandbox", "trusted", "--stdio", sys.executable, script, "--stdio"
            )
        elif SERVERS[world] > 1:
            self._hub.add({f"server{number}": f"{base}/{number}/mcp" for number in range(SERVERS[world])})
        else:
            self._hub.add({"mock": self._direct})
        if world == "wide":
            self._small = stack.enter_context(hub.running())
            self._small.add({"mock": f"http://127.0.0.1:{self._mock.port}/6/mcp"})

    @property
    def ours(self) -> list[int]:
        """The processes that are no strangers."""
        helpers = [self._mock.pid, self._hub.pid, *([self._nginx.pid] if self._nginx else [])]
        return [*helpers, *([self._small.pid] if self._small else [])]

    def systems(self, case: Case, seconds: float) -> list[System]:
        """The systems of a case, which take turns."""
        found = [System("direct", 0, case.at(self._direct, "", case.tool, seconds))]
        if self._nginx is not None and case.proxied:
            place = f"http://127.0.0.1:{self._nginx.port}/mcp"
            found.append(System("nginx", self._nginx.pid, case.at(place, "", case.tool, seconds)))
        if self._small is not None:
            found.append(self._through("small", self._small, case, seconds))
        return [*found, self._through("hub", self._hub, case, seconds)]

    def _through(self, name: str, running: Hub, case: Case, seconds: float) -> System:
        key = (running.pid, case.tool)
        if case.tool and key not in self._names:
            self._names[key] = running.exposed(case.tool)
        return System(name, running.pid, case.at(running.url, running.token, self._names.get(key, ""), seconds))


if __name__ == "__main__":
    sys.exit(main())
