"""A data folder of its own for each test, with a secret in a hook's report and in the transcript's record."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("os.nice", lambda _: 0)
    monkeypatch.setattr("session_mgmt_mcp.tools.forgetting.WAIT_S", 0)
    return folder


@pytest.fixture
def app(data: Path) -> Iterator[App]:
    with App.open(data, create=True) as opened:
        yield opened


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str, code: int = 0) -> Any:
        found = main([*words, "--json"])
        out = capsys.readouterr()
        assert found == code, out.out + out.err
        return json.loads(out.out)

    return call
