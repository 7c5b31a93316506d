"""A data folder, a place for keys, and the bundled history imported, for each test of the audit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

from folder_copy import copy_folder  # isort: skip

HISTORY = Path(install.__file__).parent / "demo" / "projects"
Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "no-claude"))
    return folder


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str, code: int = 0) -> Any:
        assert main([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the bundled history, sealed and published; copied, never used itself."""
    folder = tmp_path_factory.mktemp("history") / "data"
    with App.open(folder, create=True) as app:
        app.import_claude([HISTORY])
        app.maintain()
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
