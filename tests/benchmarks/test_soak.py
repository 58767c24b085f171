"""The soak frame runs what is named, tells every figure, and ends with an error when a bound was not kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.soak import __main__ as soak
from benchmarks.soak.scenario import Finding, Plan, Scenario
from benchmarks.soak.scenarios import SCENARIOS


def scenario(name: str, *findings: Finding) -> Scenario:
    def run(plan: Plan) -> Sequence[Finding]:
        assert plan.seconds == pytest.approx(6)
        if not findings:
            raise LookupError("nothing there")
        return findings

    return Scenario(name, "for the test", run, minutes=5)


GOOD = Finding("growth, MB", "0.1", "at most 8", True)
BAD = Finding("orphans", "3", "none", False)


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    command = ["soak", "--minutes", "0.1", "--out", str(out), *arguments]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setattr(soak, "SCENARIOS", (scenario("good", GOOD), scenario("bad", GOOD, BAD), scenario("breaks")))
    code = soak.main()
    return code, [json.loads(line) for line in out.read_text().splitlines()]


def test_only_the_scenarios_named_are_run_and_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, told = run(monkeypatch, tmp_path / "soak.jsonl", "good")
    assert code == 0
    assert [one["scenario"] for one in told] == ["good"]


def test_a_broken_bound_and_a_scenario_that_fails_end_with_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = run(monkeypatch, tmp_path / "soak.jsonl")
    assert code == 1
    assert [one["scenario"] for one in told] == ["good", "bad", "breaks"]
    shown = capsys.readouterr().out
    assert "| orphans | 3 | none | **broken** |" in shown and "LookupError: nothing there" in shown


def test_every_scenario_has_a_name_of_its_own_and_a_length() -> None:
    assert len({one.name for one in SCENARIOS}) == len(SCENARIOS)
    assert all(0 < one.minutes <= 60 and one.about for one in SCENARIOS)
