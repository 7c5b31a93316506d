"""What `/metrics` tells, in Prometheus' text format: requests as they are counted, gauges from the last `Reading`.

The number of series is bounded: tools, endpoints and outcomes that are not known are counted as `other`.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from session_mgmt_mcp import __version__
from session_mgmt_mcp.adapters.http.reading import Reading
from session_mgmt_mcp.core.access import ADMIN_TOOLS

ENDPOINTS: Final = ("mcp", "health", "ready", "metrics", "other")
OUTCOMES: Final = ("ok", "error", "denied", "failed", "gone")
ERRORS: Final = ("error", "failed")  # outcomes that are errors; what was denied is counted by its reason
REASONS: Final = (
    *("no_key", "unknown_key", "expired", "revoked", "guessing", "role", "project"),
    *("rate", "host", "origin", "body", "busy", "settings"),
)
REASONS_MAX: Final = 32
# /health takes 1 ms, a search 5 to 50 with up to 100,000 events and 50 to 300 with a million, a first one seconds
DURATIONS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# an NVMe disk takes 0.1 to 2 ms, a spinning one 10 to 30, a starved one seconds
SYNCS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
OTHER: Final = "other"


class ServiceMetrics:
    """The `Metrics` of a running service; every method may be called from any thread."""

    def __init__(
        self,
        reading: Callable[[], Reading | None],
        *,
        redactions: Callable[[], int] = lambda: 0,
        ready: Callable[[], dict[str, bool]] = dict,
        memory_limit_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """`reading`: the last one; None before the first. `redactions`: secrets this process took out of what it appended.
        `ready`: check -> whether it holds. `memory_limit_bytes`: 0 for none.
        """
        # a gauge beside every counter that nobody asks for
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "session_mgmt_requests",
            "Requests. outcome: ok, error (the request was wrong), denied, failed (the service's fault), gone (the client).",
            ("endpoint", "tool", "outcome"),
            registry=registry,
        )
        self._durations = Histogram(
            "session_mgmt_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("endpoint", "tool"),
            buckets=DURATIONS_S,
            registry=registry,
        )
        self._errors = Counter(
            "session_mgmt_errors",
            "Requests that ended in an error. reason: error (the request was wrong), failed (the service's fault).",
            ("reason",),
            registry=registry,
        )
        self._denied = Counter(
            "session_mgmt_denied", "Requests turned away, by reason.", ("reason",), registry=registry
        )
        self._in_flight = Gauge(
            "session_mgmt_requests_in_flight", "Requests to /mcp that are being answered.", registry=registry
        )
        self._syncs = Histogram(
            "session_mgmt_fsync_duration_seconds",
            "Time until a small write to the data folder was on the disk, tried every few seconds.",
            buckets=SYNCS_S,
            registry=registry,
        )
        self._sync_failures = Counter(
            "session_mgmt_fsync_failures",
            "Such writes that could not be made durable.",
            registry=registry,
        )
        Gauge(
            "session_mgmt_build_info",
            "Always 1; the labels say what runs.",
            ("version", "python"),
            registry=registry,
        ).labels(__version__, platform.python_version()).set(1)
        registry.register(_Gauges(reading, redactions, ready, memory_limit_bytes))
        prometheus_client.ProcessCollector(registry=registry)
        self._reasons = set(REASONS)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """An increase from nothing to 1 is seen only where there was a 0."""
        for tool in sorted(ADMIN_TOOLS):
            for outcome in OUTCOMES:
                self._requests.labels("mcp", tool, outcome)
            self._durations.labels("mcp", tool)
        for outcome in OUTCOMES:
            self._requests.labels("mcp", "", outcome)
        for reason in ERRORS:
            self._errors.labels(reason)
        for reason in REASONS:
            self._denied.labels(reason)

    def observe(self, endpoint: str, tool: str, outcome: str, seconds: float) -> None:
        """See `ports.Metrics`."""
        endpoint = endpoint if endpoint in ENDPOINTS else OTHER
        tool = tool if not tool or tool in ADMIN_TOOLS else OTHER
        outcome = outcome if outcome in OUTCOMES else OTHER
        self._requests.labels(endpoint, tool, outcome).inc()
        self._durations.labels(endpoint, tool).observe(seconds)
        if outcome in ERRORS:
            self._errors.labels(outcome).inc()

    def denied(self, reason: str) -> None:
        """See `ports.Metrics`."""
        if reason not in self._reasons:
            if len(self._reasons) >= REASONS_MAX:
                reason = OTHER
            self._reasons.add(reason)
        self._denied.labels(reason).inc()

    def in_flight(self, change: int) -> None:
        """See `ports.Metrics`."""
        self._in_flight.inc(change)

    def synced(self, seconds: float | None) -> None:
        """A write to the data folder took this long to be durable; None: it could not be made so."""
        if seconds is None:
            self._sync_failures.inc()
        else:
            self._syncs.observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """See `ports.Metrics`."""
        return prometheus_client.generate_latest(self._registry), prometheus_client.CONTENT_TYPE_PLAIN_0_0_4


class _Gauges(Collector):
    """What the last reading found, as gauges; what it could not find out is left out."""

    def __init__(
        self,
        reading: Callable[[], Reading | None],
        redactions: Callable[[], int],
        ready: Callable[[], dict[str, bool]],
        memory_limit_bytes: Callable[[], int],
    ) -> None:
        self._reading = reading
        self._redactions = redactions
        self._ready = ready
        self._memory_limit_bytes = memory_limit_bytes

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks for no reading."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "session_mgmt_redactions",
            "Secrets taken out of what this process appended, before it was written; hooks and commands not counted.",
            value=self._redactions(),
        )
        yield _by(
            "session_mgmt_ready",
            "check",
            "Whether a check of /ready holds.",
            {name: float(holds) for name, holds in self._ready().items()},
        )
        yield GaugeMetricFamily(
            "session_mgmt_memory_limit_bytes",
            "The bound on the process's own memory; 0 for none.",
            value=self._memory_limit_bytes(),
        )
        found = self._reading()
        if found is not None:
            yield from _single(found)
            yield from _labelled(found)


def _single(found: Reading) -> Iterator[Metric]:
    for name, help_text, value in (
        ("probe_timestamp_seconds", "When the data folder was last looked at.", found.taken_at),
        ("log_writable", "Whether the last write to the data folder was made durable.", _durable(found)),
        ("last_position", "Position of the log's last event.", found.position),
        (
            "lag_events",
            "Events not yet in every published view; they are found all the same.",
            found.lag_events,
        ),
        ("lag_seconds", "Since when the oldest of these waits.", found.lag_s),
        ("vectors_behind_events", "Events that are not yet found by meaning.", found.vectors_behind),
        ("journal_bytes", "Allocated for what is not sealed yet.", found.journal_bytes),
        ("segments", "Sealed segments of the log.", found.segments),
        ("segment_bytes", "Size of the sealed segments.", found.segment_bytes),
        ("forgotten_payloads", "Payloads taken out of the log for good.", found.forgotten),
        ("spooled_events", "Events that wait in spool/ for maintenance to append them.", found.spooled),
        ("active_sessions", "Sessions of assistants at work on this machine.", found.live_sessions),
        ("disk_free_bytes", "Free on the data folder's disk.", found.disk_free_bytes),
        ("disk_size_bytes", "Size of the data folder's disk.", found.disk_bytes),
        ("last_backup_timestamp_seconds", "When the last known backup ended.", found.last_backup_at),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"session_mgmt_{name}", help_text, value=value)


def _labelled(found: Reading) -> Iterator[Metric]:
    published = {name: float(position) for name, position in found.published.items()}
    yield _by("session_mgmt_published_position", "projection", "Last position a view holds.", published)
    rejected = {place: float(count) for place, count in found.rejected.items()}
    yield _by(
        "session_mgmt_rejected_events",
        "place",
        "Files kept aside because they hold no whole event; none was acknowledged.",
        rejected,
    )
    memory = {"anonymous": found.anonymous_bytes, "mapped": found.mapped_bytes}
    yield _by(
        "session_mgmt_memory_bytes",
        "kind",
        "Resident memory: the process's own (anonymous), and mapped files.",
        {kind: float(size) for kind, size in memory.items() if size is not None},
    )


def _durable(found: Reading) -> float:
    return float(found.sync_s is not None)


def _by(name: str, label: str, help_text: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((key,), value)
    return family
