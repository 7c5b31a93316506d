"""What /metrics tells: counted as it is reported, bounded in its series, clean to promtool."""

import shutil
import subprocess
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families
from reading_kit import FULL

from session_mgmt_mcp import __version__
from session_mgmt_mcp.adapters.http.metrics import OUTCOMES, REASONS_MAX, ServiceMetrics
from session_mgmt_mcp.adapters.http.ports import Metrics
from session_mgmt_mcp.adapters.http.reading import Reading
from session_mgmt_mcp.core.access import ADMIN_TOOLS


def told(metrics: ServiceMetrics) -> dict[str, float]:
    """Every sample as `name{label=value,…}` -> value."""
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    out = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            out[f"{sample.name}{{{labels}}}"] = sample.value
    return out


def test_a_request_is_counted_by_endpoint_tool_and_outcome_and_its_time_falls_into_a_bucket() -> None:
    metrics: Metrics = (service := ServiceMetrics(lambda: None))
    metrics.observe("mcp", "search", "ok", 0.02)
    metrics.observe("mcp", "search", "failed", 0.3)
    found = told(service)
    assert found["session_mgmt_requests_total{endpoint=mcp,outcome=ok,tool=search}"] == 1
    assert found["session_mgmt_requests_total{endpoint=mcp,outcome=failed,tool=search}"] == 1
    where = "session_mgmt_request_duration_seconds"
    assert found[f"{where}_bucket{{endpoint=mcp,le=0.01,tool=search}}"] == 0
    assert found[f"{where}_bucket{{endpoint=mcp,le=0.025,tool=search}}"] == 1
    assert found[f"{where}_count{{endpoint=mcp,tool=search}}"] == 2
    assert found[f"{where}_sum{{endpoint=mcp,tool=search}}"] == pytest.approx(0.32)


def test_errors_are_counted_by_whose_fault_they_are_and_refusals_apart() -> None:
    service = ServiceMetrics(lambda: None)
    for outcome in OUTCOMES:
        service.observe("mcp", "", outcome, 0.001)
    service.denied("expired")
    found = told(service)
    assert found["session_mgmt_errors_total{reason=error}"] == 1
    assert found["session_mgmt_errors_total{reason=failed}"] == 1
    assert found["session_mgmt_denied_total{reason=expired}"] == 1
    assert found["session_mgmt_denied_total{reason=no_key}"] == 0


def test_names_a_client_makes_up_add_one_series_at_most() -> None:
    service = ServiceMetrics(lambda: None)
    service.observe("other", "other", "other", 0.001)
    before = len(told(service))
    for number in range(500):
        service.observe(f"/x{number}", f"tool{number}", f"outcome{number}", 0.001)
    assert len(told(service)) == before


def test_reasons_beyond_a_bound_are_counted_together() -> None:
    service = ServiceMetrics(lambda: None)
    for number in range(500):
        service.denied(f"reason{number}")
    found = {name: value for name, value in told(service).items() if name.startswith("session_mgmt_denied")}
    assert len(found) <= REASONS_MAX + 1
    assert sum(found.values()) == 500


def test_every_tool_begins_at_zero_so_that_its_first_failure_is_an_increase() -> None:
    found = told(ServiceMetrics(lambda: None))
    for tool in ADMIN_TOOLS:
        assert found[f"session_mgmt_requests_total{{endpoint=mcp,outcome=failed,tool={tool}}}"] == 0


def test_requests_at_work_are_shown_while_they_are() -> None:
    service = ServiceMetrics(lambda: None)
    service.in_flight(1)
    service.in_flight(1)
    service.in_flight(-1)
    assert told(service)["session_mgmt_requests_in_flight{}"] == 1


def test_syncs_are_a_histogram_and_failed_ones_a_count() -> None:
    service = ServiceMetrics(lambda: None)
    service.synced(0.004)
    service.synced(None)
    found = told(service)
    assert found["session_mgmt_fsync_duration_seconds_bucket{le=0.0025}"] == 0
    assert found["session_mgmt_fsync_duration_seconds_bucket{le=0.005}"] == 1
    assert found["session_mgmt_fsync_failures_total{}"] == 1


def test_gauges_show_the_reading() -> None:
    found = told(
        ServiceMetrics(
            lambda: FULL,
            redactions=lambda: 9,
            ready=lambda: {"log": True, "views": False},
            memory_limit_bytes=lambda: 1 << 30,
        )
    )
    shown = {
        "last_position{}": 41,
        "published_position{projection=lexical}": 39,
        "published_position{projection=query}": 40,
        "lag_events{}": 2,
        "lag_seconds{}": 3.5,
        "vectors_behind_events{}": 7,
        "journal_bytes{}": 8 << 20,
        "segments{}": 3,
        "segment_bytes{}": 1000,
        "forgotten_payloads{}": 1,
        "spooled_events{}": 4,
        "rejected_events{place=quarantine}": 2,
        "rejected_events{place=spool}": 1,
        "active_sessions{}": 5,
        "disk_free_bytes{}": 10,
        "disk_size_bytes{}": 20,
        "last_backup_timestamp_seconds{}": 1_600_000_000,
        "memory_bytes{kind=anonymous}": 100,
        "memory_bytes{kind=mapped}": 200,
        "memory_limit_bytes{}": 1 << 30,
        "probe_timestamp_seconds{}": 1_700_000_000,
        "log_writable{}": 1,
        "redactions_total{}": 9,
        "ready{check=log}": 1,
        "ready{check=views}": 0,
    }
    assert {name: found.get(f"session_mgmt_{name}") for name in shown} == shown
    version = [name for name in found if name.startswith("session_mgmt_build_info")]
    assert len(version) == 1 and f"version={__version__}" in version[0]


def test_what_is_not_known_is_left_out_instead_of_zero() -> None:
    found = told(ServiceMetrics(lambda: Reading(taken_at=1.0)))
    assert found["session_mgmt_log_writable{}"] == 0
    for name in ("last_position", "lag_events", "lag_seconds", "last_backup_timestamp_seconds"):
        assert f"session_mgmt_{name}{{}}" not in found


def test_counting_from_many_threads_loses_nothing() -> None:
    service = ServiceMetrics(lambda: None)

    def work() -> None:
        for _ in range(500):
            service.observe("mcp", "search", "ok", 0.001)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(service)["session_mgmt_requests_total{endpoint=mcp,outcome=ok,tool=search}"] == 4000


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_mend() -> None:
    service = ServiceMetrics(lambda: FULL, ready=lambda: {"log": True})
    service.observe("mcp", "search", "ok", 0.001)
    service.synced(0.001)
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=service.render()[0],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
