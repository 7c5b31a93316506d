"""A data folder, a place for keys, and the bundled history imported, for each test of the audit."""

from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.tools.app import App

from folder_copy import copy_folder  # isort: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "no-claude"))
    return folder


@pytest.fixture
def imported(history: Path, data: Path) -> dict[str, Any]:
    copy_folder(history, data)
    with App.open(data) as app:
        return {"appended": app.log.head().position}


@pytest.fixture
def app(imported: dict[str, Any], data: Path) -> Any:
    with App.open(data) as opened:
        yield opened
