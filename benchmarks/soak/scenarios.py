"""Every scenario there is, in the order in which they run. A new one is a module beside this and a line here."""

from __future__ import annotations

from benchmarks.soak import abandoned, fuzz, kills
from benchmarks.soak.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (abandoned.SCENARIO, fuzz.SCENARIO, kills.SCENARIO)
