"""A data folder of its own for each test, with a secret in a hook's report and in the transcript's record."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from session_mgmt_mcp.tools.app import App


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("session_mgmt_mcp.tools.forgetting.WAIT_S", 0)
    return folder


@pytest.fixture
def app(data: Path) -> Iterator[App]:
    with App.open(data, create=True) as opened:
        yield opened
