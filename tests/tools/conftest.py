"""A data folder of its own for each test of the commands, and the bundled history imported into it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install

HISTORY = Path(install.__file__).parent / "demo" / "projects"
Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "no-claude"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


@pytest.fixture
def imported(run: Run) -> dict[str, Any]:
    report: dict[str, Any] = run("import", str(HISTORY))
    return report
