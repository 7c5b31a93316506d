"""The files of deploy/monitoring, as tests ask about them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
RULES = FOLDER / "session-mgmt-alerts.yml"
RULE_TESTS = FOLDER / "session-mgmt-alerts.test.yml"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "session-mgmt.json"
JOB = "session-mgmt-mcp"
METRIC = re.compile(r"\b(?:up|(?:session_mgmt|process)_[a-z_0-9]+)\b")
SELECTOR = re.compile(r"(\b(?:up|(?:session_mgmt|process)_[a-z_0-9]+)\b)\{([^}]*)\}")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[str]:
    """Every PromQL of the dashboard."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield annotation["expr"]
