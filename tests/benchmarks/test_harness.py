"""The benchmark harness works and tells the truth; no figure of it is judged here."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import machine, measure, plot, report
from benchmarks.cases import TOOLS, Case, cases
from benchmarks.load import MARK, Load, fault_of
from benchmarks.measure import System, Window, WrongAnswers

SHORT = 0.1
CASES = {one.key: one for one in cases((2,), quick=True)}


@pytest.fixture(scope="module")
def mock() -> Generator[machine.Helper]:
    with machine.helper("mock") as helper:
        yield helper


@pytest.fixture(scope="module")
def floor(mock: machine.Helper, tmp_path_factory: pytest.TempPathFactory) -> Generator[machine.Helper]:
    database = tmp_path_factory.mktemp("floor") / "audit.db"
    allowed = ["--allow", "echo", "--allow", "big", "--allow", "ticks"]
    url = f"http://127.0.0.1:{mock.port}/1000/mcp"
    with machine.helper("floor", url, "--token", "secret", "--database", str(database), *allowed) as helper:
        yield helper


def short(load: Load) -> Load:
    return replace(load, warmup=0.05, connections=min(load.connections, 4))


@pytest.mark.parametrize("key", [key for key in CASES if key.startswith(("one", "list"))])
def test_every_load_is_answered_rightly_by_the_server_and_through_the_floor(
    key: str, mock: machine.Helper, floor: machine.Helper
) -> None:
    case = CASES[key]
    direct = case.at(f"http://127.0.0.1:{mock.port}/{TOOLS[case.world]}/mcp", "", case.tool, SHORT)
    through = case.at(f"http://127.0.0.1:{floor.port}/mcp", "secret", case.tool, SHORT)
    systems = [System("direct", 0, short(direct)), System("floor", floor.pid, short(through))]
    cpus = sorted(os.sched_getaffinity(0))

    taken = {one.name: measure.window(one, cpus, [mock.pid, floor.pid]) for one in systems}

    assert taken["direct"].calls and taken["floor"].calls
    assert 0 < taken["floor"].p50 <= taken["floor"].p99
    assert taken["direct"].cpu == 0
    assert taken["floor"].memory > 1


def test_a_wrong_key_stops_the_measurement(floor: machine.Helper) -> None:
    load = short(CASES["one echo modern 2"].at(f"http://127.0.0.1:{floor.port}/mcp", "wrong", "echo", SHORT))
    with pytest.raises(WrongAnswers, match="HTTP 401"):
        measure.window(System("floor", floor.pid, load), [0], [])


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"id":7,"result":"call 7"}'),
        (200, b'{"id":8,"result":"call 7"}'),
        (200, b'{"id":7,"result":"call 8"}'),
        (200, b'{"id":7,"result":"call 7","isError":true}'),
        (200, b'{"id":7,"error":"call 7"}'),
    ],
)
def test_an_answer_that_is_not_the_call_s_own_is_wrong(status: int, body: bytes) -> None:
    load = Load("", "modern", needle=f"call {MARK.decode()}")
    assert fault_of(load, b"7", status, body)
    assert not fault_of(load, b"7", 200, b'{"id":7,"result":"call 7"}')


def window(cpu: float, p50: float = 1.0, foreign: float = 0.0) -> Window:
    return Window(100, 100.0, p50, 2 * p50, cpu, 50.0, foreign)


def test_ratios_are_taken_within_a_round_so_that_a_slow_minute_weighs_on_both_sides() -> None:
    rounds = [
        {"direct": window(0), "floor": window(0.1), "hub": window(0.2)},
        {"direct": window(0), "floor": window(0.3), "hub": window(0.6)},
        {"direct": window(0), "floor": window(0.2), "hub": window(0.4)},
    ]
    assert measure.ratio(rounds, "hub", "floor", "cpu") == pytest.approx(2.0)
    assert measure.ratio(rounds, "hub", "direct", "cpu") == 0


def rows() -> list[report.Row]:
    def row(case: Case) -> report.Row:
        systems = {"direct": window(0), "floor": window(0.1, 2.0), "hub": window(0.2, 3.0, foreign=0.5)}
        return report.row(case, [systems])

    return [row(case) for case in cases((1, 16), quick=False)]


def test_the_table_has_a_line_for_every_row_and_marks_the_noisy_ones() -> None:
    lines = report.table(rows()).splitlines()
    assert len(lines) == 2 + len(rows())
    assert all("~ | " in line and "**2.00**" in line for line in lines[2:])


def test_the_drawings_are_well_formed(tmp_path: Path) -> None:
    drawn = plot.drawings(rows())
    assert set(drawn) == {"latency.svg", "tools.svg"}
    for drawing in drawn.values():
        assert drawing.startswith("<svg") and drawing.count("<polyline") >= 2
