"""deploy/monitoring: what promtool and amtool check, and what neither of them knows: that the metrics exist."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from monitoring_files import FOLDER, JOB, METRIC, RULE_TESTS, RULES, SELECTOR, dashboard, queries, rules
from prometheus_client.parser import text_string_to_metric_families
from reading_kit import FULL

from session_mgmt_mcp.adapters.http.metrics import ServiceMetrics
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.tools.cli import COMMANDS, main

PANELS = {"row", "stat", "timeseries"}  # those that Grafana 8 and later have, and that are no add-ons
COLUMNS = 24
MATCHER = re.compile(r"(\w+)(=~|!=|=)\"([^\"]*)\"")
CHECKS = {"log", "views", "model", "start", "memory", "draining"}  # of /ready


def expressions() -> list[str]:
    return [*queries(), *(rule["expr"] for rule in rules())]


@functools.cache
def exposed() -> dict[str, list[dict[str, str]]]:
    """Every sample name of an instance with everything found out, and the labels of its series."""
    metrics = ServiceMetrics(lambda: FULL, ready=lambda: dict.fromkeys(CHECKS, True))
    found: dict[str, list[dict[str, str]]] = {"up": [{}]}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


def checked(*command: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, check=False, cwd=FOLDER
    )


# -- what the programs say -----------------------------------------------------------------------------------------


def test_promtool_accepts_the_rules() -> None:
    done = checked("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_not_otherwise() -> None:
    done = checked("promtool", "test", "rules", RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_with_its_key_in_place(tmp_path: Path) -> None:
    for path in (FOLDER / "prometheus.yml", RULES):
        shutil.copy(path, tmp_path)
    done = checked("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode != 0 and "metrics-key" in done.stdout + done.stderr  # it is made by the operator
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "metrics-key").write_text("smk_a_b")
    done = checked("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_accepts_the_alertmanager_example() -> None:
    done = checked("amtool", "check-config", FOLDER / "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


# -- rules ---------------------------------------------------------------------------------------------------------


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    tested = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    cases = [case for one in tested for case in one["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert firing == silent == {rule["alert"] for rule in rules()}


def test_every_alert_says_how_bad_it_is_what_it_is_and_more() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert len(rule["annotations"]["description"]) > len(rule["annotations"]["summary"]), rule["alert"]


def test_a_service_that_vanished_is_down_too() -> None:
    (down,) = (rule for rule in rules() if rule["alert"] == "ServiceDown")
    assert "absent(up{" in down["expr"] and "== 0" in down["expr"]


def test_commands_that_alerts_name_exist() -> None:
    named = re.findall(r"`session-mgmt-mcp (\w+)", RULES.read_text())
    assert named and set(named) <= set(COMMANDS)


def test_settings_that_alerts_name_exist() -> None:
    for name in ("max_concurrency", "max_memory_mb"):
        assert name in RULES.read_text().lower() and hasattr(ServiceSettings(), name)


def test_the_key_is_made_by_a_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = re.findall(r"run\.sh (keys create .*) > ", (FOLDER / "README.md").read_text(), re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["keys", "create", "--help"])
    known = capsys.readouterr().out
    assert {word for word in line.split() if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", known))


# -- metrics -------------------------------------------------------------------------------------------------------


def test_every_metric_asked_for_is_exposed() -> None:
    for expression in expressions():
        names = set(METRIC.findall(expression))
        assert names and names <= set(exposed()), expression


def test_every_label_asked_for_has_these_values() -> None:
    for name, matchers in SELECTOR.findall("\n".join(expressions())):
        for label, operator, value in MATCHER.findall(matchers):
            if operator == "!=" or label in ("job", "instance"):
                continue  # the latter are Prometheus's own
            known = {labels.get(label) for labels in exposed()[name]}
            for wanted in value.split("|") if operator == "=~" else [value]:
                assert wanted in known, f"{name}: no {label} {wanted!r}"


def test_rules_ask_for_the_job_that_is_scraped() -> None:
    jobs = {
        job["job_name"]: job
        for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    }
    for expression in expressions():
        assert set(re.findall(r"job=~?\"([^\"]*)\"", expression)) <= {JOB}
    targets = [target for group in jobs[JOB]["static_configs"] for target in group["targets"]]
    assert targets and not any(target.startswith(("localhost", "127.")) for target in targets)  # itself
    assert {target.rpartition(":")[2] for target in targets} == {str(ServiceSettings().metrics_port)}
    assert "credentials_file" in jobs[JOB]["authorization"]


# -- the dashboard, which is not rendered by any test --------------------------------------------------------------


def test_the_dashboard_is_a_model_and_no_answer_of_the_api() -> None:
    found = dashboard()
    assert "dashboard" not in found and found.get("id") is None
    assert found["uid"] and found["title"] and found["schemaVersion"] >= 36


def test_its_panels_are_of_types_that_grafana_still_has() -> None:
    assert {panel["type"] for panel in dashboard()["panels"]} == PANELS


def test_its_panels_lie_within_the_grid_and_apart_from_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] >= 0 and at["x"] + at["w"] <= COLUMNS and at["w"] > 0 and at["h"] > 0, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_names_its_source_by_the_variable_and_its_queries_apart() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    kinds = {variable["name"]: variable["type"] for variable in dashboard()["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "instance": "query"}
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["description"] and panel["datasource"] == source
        assert panel["fieldConfig"]["defaults"]["unit"]
        names = [target["refId"] for target in panel["targets"]]
        assert names and len(set(names)) == len(names), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == source
            assert 'instance=~"$instance"' in target["expr"], target["expr"]


def test_rates_follow_the_scrape_interval() -> None:
    for query in queries():
        for window in re.findall(r"rate\([^\[]*\[([^\]]*)\]", query):
            assert window == "$__rate_interval", query


def test_provisioning_finds_dashboard_and_source() -> None:
    base = FOLDER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((base / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy") and source["uid"]
    (provider,) = yaml.safe_load((base / "dashboards" / "session-mgmt.yml").read_text())["providers"]
    assert provider["type"] == "file" and provider["options"]["path"] in (FOLDER / "README.md").read_text()
