"""A data folder of its own for each test of the commands, and the bundled history imported into it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.tools.cli import main

HISTORY = Path(install.__file__).parent / "demo" / "projects"
Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "no-claude"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("os.nice", lambda _: 0)  # maintain lowers its priority: not that of the tests
    return folder


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str, code: int = 0) -> Any:
        assert main([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def imported(run: Run) -> dict[str, Any]:
    report: dict[str, Any] = run("import", str(HISTORY))
    return report
