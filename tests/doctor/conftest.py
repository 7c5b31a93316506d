"""A sound data folder with history, and a Claude Code that calls this installation for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.adapters.claude_code.client import Client, find_client
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

from folder_copy import copy_folder  # isort: skip

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def data(history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    copy_folder(history, folder)
    with App.open(folder) as app:
        app.log.append([])
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


@pytest.fixture
def client(data: Path, tmp_path: Path) -> Client:
    """Claude Code, registered."""
    (tmp_path / "claude").mkdir()
    found = find_client()
    assert found is not None
    install.apply(install.plan_install(found, install.this_installation(data)))
    return found


@pytest.fixture
def doctor(data: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run it: the answer, where it exits with `code`."""

    def call(*words: str, code: int) -> dict[str, Any]:
        assert main(["doctor", *words, "--json"]) == code
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return call
