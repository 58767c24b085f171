"""Every instrument in one list. The registry is made by the caller; label children are cached, so counting is cheap.

Labels are server names, outcomes and reasons, never tools, callers or addresses: the number of series stays small.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STATES = ("new", "ready", "degraded", "down")


class Metrics:
    """The instruments of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.calls = Counter(
            "entrepot_calls",
            "Calls by server, version and outcome.",
            ["server", "version", "outcome"],
            registry=registry,
        )
        self.call_seconds = Histogram(
            "entrepot_call_seconds",
            "Seconds a call took, by server and version.",
            ["server", "version"],
            buckets=SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "entrepot_requests_refused", "Requests refused before admission, by reason.", ["reason"], registry=registry
        )
        self.limited = Counter(
            "entrepot_calls_limited", "Calls refused by a limit, by limit.", ["limit"], registry=registry
        )
        self.empty_lists = Counter(
            "entrepot_empty_lists", "Tool lists answered without any tool, by reason.", ["reason"], registry=registry
        )
        self.server_state = Gauge(
            "entrepot_server_state", "1 for the state that a server is in.", ["server", "state"], registry=registry
        )
        self.streams = Gauge("entrepot_streams", "Open event streams to clients, by kind.", ["kind"], registry=registry)
        self.resting = Gauge(
            "entrepot_calls_resting",
            "Calls that wait for their clients to answer a question of a legacy server.",
            registry=registry,
        )
        self.snapshot_revision = Gauge(
            "entrepot_snapshot_revision", "Revision of the catalog that this worker serves.", registry=registry
        )
        self.audit_index_lag = Gauge(
            "entrepot_audit_index_bytes_behind", "Bytes of the spool not yet searchable.", registry=registry
        )
        self.fitted = Counter(
            "entrepot_lists_fitted",
            "Tool lists that were too long for their client, by client and by what became of them (search, cut).",
            ["client", "how"],
            registry=registry,
        )
        self._calls: dict[tuple[str, str, str], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def called(self, server: str, outcome: str, seconds: float, version: str = "") -> None:
        """Count one call: about 2 µs."""
        counter = self._calls.get((server, version, outcome))
        if counter is None:
            counter = self._calls[server, version, outcome] = self.calls.labels(server, version, outcome)
        counter.inc()
        histogram = self._seconds.get((server, version))
        if histogram is None:
            histogram = self._seconds[server, version] = self.call_seconds.labels(server, version)
        histogram.observe(seconds)

    def refuse(self, reason: str) -> None:
        """Count a request that was turned away (`host`, `origin`, `token`, `missing`, ...)."""
        self.refused.labels(reason).inc()

    def empty(self, reason: str) -> None:
        """Count a tool list without a tool (`no-servers`, `no-grant`, `not-reached`, `nothing-offered`)."""
        self.empty_lists.labels(reason).inc()

    def state(self, server: str, state: str) -> None:
        """Say which of `STATES` a server is in."""
        for one in STATES:
            self.server_state.labels(server, one).set(1 if one == state else 0)

    def forget(self, server: str) -> None:
        """Drop the series of a server that was removed."""
        for labels in [labels for labels in self._calls if labels[0] == server]:
            self.calls.remove(*labels)
            del self._calls[labels]
        for pair in [pair for pair in self._seconds if pair[0] == server]:
            self.call_seconds.remove(*pair)
            del self._seconds[pair]
        for state in STATES:
            self.server_state.remove(server, state)
