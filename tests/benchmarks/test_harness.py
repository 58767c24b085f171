"""The benchmark harness works and tells the truth; no figure of it is judged here."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import machine, measure, nginx, plot, report
from benchmarks.cases import BOUNDS, TOOLS, Case, cases
from benchmarks.load import MARK, Load, fault_of
from benchmarks.measure import System, Window, WrongAnswers
from benchmarks.probes import PROBES
from benchmarks.soak.scenario import Finding

SHORT = 0.5
CASES = {one.key: one for one in cases((2,), quick=True)}


@pytest.fixture(scope="module")
def mock() -> Generator[machine.Helper]:
    with machine.helper("mock") as helper:
        yield helper


@pytest.fixture(scope="module")
def proxy(mock: machine.Helper) -> Generator[machine.Helper]:
    with nginx.before(f"http://127.0.0.1:{mock.port}/1000/mcp") as helper:
        if helper is None:
            pytest.skip(nginx.MISSING)
        yield helper


def short(load: Load) -> Load:
    """In half a second, and without the pauses between events."""
    arguments = {name: value for name, value in load.params.get("arguments", {}).items() if name != "pause"}
    params = load.params | ({"arguments": arguments} if arguments else {})
    return replace(load, warmup=0.05, seconds=SHORT, connections=min(load.connections, 4), params=params)


@pytest.mark.parametrize("key", [key for key in CASES if key.startswith(("one", "list"))])
def test_every_load_is_answered_rightly_by_the_server_and_through_nginx(
    key: str, mock: machine.Helper, proxy: machine.Helper
) -> None:
    case = CASES[key]
    direct = case.at(f"http://127.0.0.1:{mock.port}/{TOOLS[case.world]}/mcp", "", case.tool, SHORT)
    through = case.at(f"http://127.0.0.1:{proxy.port}/mcp", "", case.tool, SHORT)
    systems = [System("direct", 0, short(direct)), System("nginx", proxy.pid, short(through))]
    cpus = sorted(os.sched_getaffinity(0))

    taken = {one.name: measure.window(one, cpus, [mock.pid, proxy.pid]) for one in systems}

    assert taken["direct"].calls and taken["nginx"].calls
    assert 0 < taken["nginx"].p50 <= taken["nginx"].p99 <= taken["nginx"].longest
    assert taken["direct"].cpu == 0
    assert taken["nginx"].memory > 1


def test_a_wrong_answer_stops_the_measurement(mock: machine.Helper) -> None:
    load = short(CASES["one echo modern 2"].at(f"http://127.0.0.1:{mock.port}/6/mcp", "", "echo", SHORT))
    with pytest.raises(WrongAnswers, match="not the answer|is there 0 times"):
        measure.window(System("direct", 0, replace(load, needle="something else")), [0], [])


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
        {"direct": window(0), "nginx": window(0.1), "hub": window(0.2)},
        {"direct": window(0), "nginx": window(0.3), "hub": window(0.6)},
        {"direct": window(0), "nginx": window(0.2), "hub": window(0.4)},
    ]
    assert measure.ratio(rounds, "hub", "nginx", "cpu") == pytest.approx(2.0)
    assert measure.ratio(rounds, "hub", "direct", "cpu") == 0


def taken(case: Case) -> list[measure.Round]:
    systems = {"direct": window(0), "hub": window(0.2, 3.0, foreign=0.5)}
    if case.proxied:
        systems["nginx"] = window(0.1, 2.0)
    if case.world == "wide":
        systems["small"] = window(0.2)
    return [systems]


def rows() -> list[report.Row]:
    return [report.row(case, taken(case)) for case in cases((1, 16, 64), quick=False)]


def test_the_table_has_a_line_for_every_row_and_marks_the_noisy_ones() -> None:
    lines = report.table(rows()).splitlines()
    assert len(lines) == 2 + len(rows())
    assert all("~ | " in line for line in lines[2:])
    assert any("**2.0**" in line for line in lines[2:])


def test_every_promise_is_held_against_the_rows_that_it_is_about() -> None:
    told = report.promises(rows())
    for bound in BOUNDS:
        about = [one for one in told if one.what.startswith(bound.words)]
        assert {one.what.rpartition(", ")[2] for one in about} == {"legacy", "modern"}
    added = next(one for one in told if one.what.startswith("added at the median with one"))
    assert (added.figure, added.kept) == ("2.00 ~", False)


def test_the_drawings_are_well_formed(tmp_path: Path) -> None:
    drawn = plot.drawings(rows())
    assert set(drawn) == {"latency.svg", "tools.svg"}
    for drawing in drawn.values():
        assert drawing.startswith("<svg") and drawing.count("<polyline") >= 2


def test_a_run_that_was_broken_off_goes_on_where_it_was(tmp_path: Path) -> None:
    some = cases((1, 16), quick=True)
    about = {"commit": "abc", "date": "today"}
    book = bench.Book(
        tmp_path, about, some, [0], {some[0].key: taken(some[0])}, {"idle": [Finding("m", "1", "2", True)]}
    )
    book.write()
    again = bench.Book(tmp_path, about, some, [0])
    again.read()
    assert (again.taken, again.probed) == (book.taken, book.probed)
    assert again.markdown() == (tmp_path / "RESULTS.md").read_text() == book.markdown()
    other = bench.Book(tmp_path, about | {"commit": "def"}, some, [0])
    other.read()
    assert not other.taken


def test_every_row_and_every_probe_has_a_name_of_its_own() -> None:
    names = [one.key for one in cases((1, 4), quick=False)] + [one.name for one in PROBES]
    assert len(set(names)) == len(names)
