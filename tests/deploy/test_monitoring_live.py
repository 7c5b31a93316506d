"""A real Prometheus and Alertmanager, with the shipped configuration, over a real service that needs a key."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from monitoring_files import JOB, SELECTOR, queries, rules
from prometheus_kit import Monitoring, free_port
from service_process import ServiceProcess

from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.backups import back_up
from session_mgmt_mcp.tools.probing import PROBE_FILE

pytestmark = pytest.mark.slow


class Site(NamedTuple):
    """What runs, and how the service is started again."""

    data: Path
    port: int
    key: str
    monitoring: Monitoring
    running: list[ServiceProcess]

    @property
    def service(self) -> ServiceProcess:
        return self.running[-1]


def command(data: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "session_mgmt_mcp", *arguments],
        env={"SESSION_MGMT_DATA_DIR": str(data), "SESSION_MGMT_EMBED": "off", "HOME": str(data.parent)},
        check=True,
        capture_output=True,
        timeout=120,
    )


def started(data: Path, port: int) -> ServiceProcess:
    """Off loopback, so that /metrics asks for a key."""
    running = ServiceProcess(data, "--host", "0.0.0.0", "--port", str(port)).__enter__()
    running.addresses["mcp"] = running.addresses["mcp"].replace("0.0.0.0", "127.0.0.1")
    running._guard.cancel()  # what waits here is bounded, and may take longer together
    return running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("monitored")
    data, port = base / "data", free_port()
    with App.open(data, create=True) as app:
        app.remember("dates in tests are UTC")
        back_up(app, str(base / "backup"))
    for name, options in (("prometheus", ["reader", "--scope", "metrics"]), ("mira", ["writer"])):
        command(
            data, "keys", "create", name, "--all-projects", "--to-file", str(base / name), "--role", *options
        )
    metrics_key, key = ((base / name).read_text().strip() for name in ("prometheus", "mira"))
    with Monitoring(base / "monitoring", f"127.0.0.1:{port}", metrics_key) as monitoring:
        running = [started(data, port)]
        try:
            for number in range(3):
                assert running[0].call("remember", {"text": f"note {number}"}, key=key).text
                assert "UTC" in running[0].call("search", {"query": "dates"}, key=key).text
            assert running[0].call("search", {"query": "dates"}).status == 401
            monitoring.until(lambda: seen(monitoring, 5), "the service was scraped five times")
            yield Site(data, port, key, monitoring, running)
        finally:
            for service in running:
                service.__exit__(None, None, None)


def seen(monitoring: Monitoring, scrapes: int) -> bool:
    found = monitoring.query(f'sum_over_time(up{{job="{JOB}"}}[5m])')
    return bool(found) and float(found[0]["value"][1]) >= scrapes


def test_prometheus_scrapes_the_service_with_its_key_alone(site: Site) -> None:
    (up,) = site.monitoring.query(f'up{{job="{JOB}"}}')
    assert up["value"][1] == "1"
    assert site.service.ask("GET", "/metrics").status == 401
    bearer = {"authorization": f"Bearer {site.key}"}
    assert site.service.ask("GET", "/metrics", headers=bearer).status == 403  # of mira, without the scope
    (position,) = site.monitoring.query("session_mgmt_last_position")
    assert float(position["value"][1]) > 0


def test_calls_and_refusals_are_counted_where_they_belong(site: Site) -> None:
    def counted(expression: str) -> float:
        return sum(float(series["value"][1]) for series in site.monitoring.query(expression))

    assert counted('session_mgmt_requests_total{endpoint="mcp",tool="remember",outcome="ok"}') == 3
    assert counted('session_mgmt_requests_total{endpoint="mcp",tool="search",outcome="ok"}') == 3
    assert counted('session_mgmt_denied_total{reason="no_key"}') >= 1
    assert counted('session_mgmt_requests_total{outcome="failed"}') == 0


def test_promtool_finds_nothing_to_mend_in_what_the_service_tells(site: Site) -> None:
    key = (site.monitoring._folder / "secrets" / "metrics-key").read_text().strip()
    page = site.service.ask("GET", "/metrics", headers={"authorization": f"Bearer {key}"})
    assert page.status == 200
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page.body, capture_output=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_every_query_of_the_dashboard_gives_a_series(site: Site) -> None:
    for query in queries():
        expression = query.replace("$__rate_interval", "1m").replace("$instance", ".*")
        expression = expression.removesuffix(" > 0")  # of an event that is yet to happen
        assert site.monitoring.query(expression), expression


def test_every_selector_of_the_rules_gives_a_series(site: Site) -> None:
    selectors = {
        f"{name}{{{matchers}}}" for rule in rules() for name, matchers in SELECTOR.findall(rule["expr"])
    }
    assert selectors
    for selector in sorted(selectors):
        assert site.monitoring.query(selector), selector


def test_a_disk_that_takes_no_writes_is_told_and_told_again_when_it_does(site: Site) -> None:
    probe = site.data / PROBE_FILE
    probe.unlink()
    probe.mkdir()  # for whoever opens it to write, as good as a disk mounted read-only
    assert site.monitoring.told.until("LogNotWritable", "firing") == "/at-once"
    answer = site.service.ask("GET", "/ready")
    assert answer.status == 503 and answer.json["checks"]["log"] != "ok"
    probe.rmdir()
    assert site.monitoring.told.until("LogNotWritable", "resolved") == "/at-once"
    assert site.service.ask("GET", "/ready").status == 200


def test_a_killed_service_is_down_at_alertmanager_until_it_runs_again(site: Site) -> None:
    assert "ServiceDown" not in site.monitoring.alerts()
    site.service.process.kill()
    assert site.monitoring.told.until("ServiceDown", "firing") == "/at-once"
    assert "ServiceDown" in site.monitoring.alerts()
    site.running.append(started(site.data, site.port))
    assert site.monitoring.told.until("ServiceDown", "resolved") == "/at-once"
    assert "ServiceDown" not in site.monitoring.alerts()
    assert "UTC" in site.service.call("search", {"query": "dates"}, key=site.key).text


def test_the_key_is_nowhere_in_what_the_programs_log(site: Site) -> None:
    key = (site.monitoring._folder / "secrets" / "metrics-key").read_text().strip()
    texts = [path.read_text() for path in site.monitoring._folder.glob("*.log")]
    texts += [service.errors() for service in site.running]
    assert all(key not in text for text in texts) and shutil.which("promtool")
