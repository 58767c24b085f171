"""`python -m benchmarks.soak [NAME ...]`: run scenarios one after the other, print their figures, keep them in a file.

Ends with 1 when a bound was not kept. Each scenario's figures are written as soon as it ends, so that a run that is
broken off loses only the scenario it was in; name the others to go on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine
from benchmarks.report import findings_table
from benchmarks.soak.scenario import Finding, Plan, Scenario
from benchmarks.soak.scenarios import SCENARIOS

OUT = Path(__file__).parents[1] / "soak.jsonl"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("names", nargs="*", help="scenarios; none: all of them")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of each (its own default)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    parser.add_argument("--out", type=Path, default=OUT, help="file that a line of JSON per scenario is added to")
    parser.add_argument("--list", action="store_true", help="say what there is")
    arguments = parser.parse_args()
    if arguments.list:
        for one in SCENARIOS:
            print(f"{one.name:<12} {one.minutes:g} min  {one.about}")
        return 0
    unknown = set(arguments.names) - {one.name for one in SCENARIOS}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in SCENARIOS)}")
    kept = True
    for one in SCENARIOS:
        if not arguments.names or one.name in arguments.names:
            kept &= _run(one, Plan(arguments.minutes or one.minutes, arguments.seed), arguments.out)
    return 0 if kept else 1


def _run(scenario: Scenario, plan: Plan, out: Path) -> bool:
    """One scenario, told and written down. Whether every bound was kept."""
    print(f"{scenario.name}: {scenario.about} ({plan.minutes:g} minutes, seed {plan.seed})", flush=True)
    began = time.time()
    try:
        findings = scenario.run(plan)
    except Exception as error:  # noqa: BLE001 - the next scenario runs all the same
        traceback.print_exc()
        findings = [Finding("ran to its end", f"{type(error).__name__}: {error}"[:300], "no error", False)]
    print(findings_table(findings), flush=True)
    told = {
        "scenario": scenario.name,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began)),
        "commit": machine.commit(),
        "minutes": round((time.time() - began) / 60, 1),
        "seed": plan.seed,
        "findings": [asdict(one) for one in findings],
    }
    with out.open("a") as file:
        file.write(json.dumps(told) + "\n")
    return all(one.kept for one in findings)


if __name__ == "__main__":
    sys.exit(main())
