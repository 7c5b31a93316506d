"""Real repositories, and a data folder that real hook payloads go into."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session_mgmt_mcp.adapters.claude_code.capture import capture
from session_mgmt_mcp.tools import maintenance
from session_mgmt_mcp.tools.app import App

Git = Callable[..., str]


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch) -> Git:
    """Runs git in a folder, without anybody's settings."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    settings = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run(folder: Path, *words: str) -> str:
        command = ["git", "-C", str(folder), "-c", "protocol.file.allow=always", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture
def repository(git: Git, tmp_path: Path) -> Path:
    """One commit, a subfolder, and nothing else."""
    folder = tmp_path / "shop"
    (folder / "api" / "v1").mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "begin")
    return folder


class Home:
    """A data folder, and what assistants report to it."""

    def __init__(self, folder: Path) -> None:
        self.app = App.open(folder, create=True)
        self.folder = folder

    def prompt(self, folder: Path | str, text: str, session: str) -> None:
        """A hook reports a prompt."""
        said = {
            "session_id": session,
            "cwd": str(folder),
            "hook_event_name": "UserPromptSubmit",
            "prompt": text,
        }
        capture(str(self.folder), json.dumps(said).encode())

    def maintain(self, *, seal: bool = True) -> None:
        maintenance.maintain(self.app.log, force=seal)

    def found(self, query: str, **given: str) -> list[str]:
        """Sessions of the results, in order of their names."""
        return sorted({moment.session for moment in self.app.views.search(query, **given)})

    def seen(self) -> dict[str, str]:
        """What was recorded, straight from the log."""
        out = {}
        for batch in self.app.log.read():
            for event in batch:
                if event.envelope.event_type == "ProjectSeen" and event.payload is not None:
                    said = json.loads(event.payload)
                    assert said["folder"] not in out, "recorded twice"
                    out[said["folder"]] = said["root"]
        return out


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with_data = Home(tmp_path / "data")
    yield with_data
    with_data.app.close()
