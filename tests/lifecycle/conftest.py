"""A data folder and hooks that report into it."""

import os
from pathlib import Path

import pytest
from lifecycle_kit import Hooks

from session_mgmt_mcp.adapters.claude_code import capture
from session_mgmt_mcp.core.log.log import FileLog


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    work = tmp_path / "mill"
    work.mkdir()
    FileLog(tmp_path / "data", create=True).close()
    made = Hooks(tmp_path / "data", work)

    def counted(_: str) -> int:
        made.maintained += 1
        return os.getpid()

    monkeypatch.setattr(capture, "spawn_maintenance", counted)
    monkeypatch.delenv("SESSION_MGMT_BRIEF", raising=False)
    return made
