"""All folders of a project are one to search, lists and counts: from the hook's payload to the answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.projects.conftest import Git, Home

from session_mgmt_mcp.adapters.claude_code import hook
from session_mgmt_mcp.tools.cli import main

NAMES = ("main", "sub", "worktree")


@pytest.fixture
def told(home: Home, repository: Path, git: Git, tmp_path: Path) -> dict[str, Path]:
    """A session in the main folder, a subfolder and a worktree, and two elsewhere, one in a folder of like name."""
    git(repository, "worktree", "add", "-q", str(tmp_path / "fix"))
    folders = {
        "main": repository,
        "sub": repository / "api",
        "worktree": tmp_path / "fix",
        "other": tmp_path / "other",
        "like": tmp_path / "shop-2",
    }
    for number, (name, folder) in enumerate(folders.items()):
        home.prompt(folder, f"oil the hinges of gate {number}", name)
    return folders


@pytest.fixture(params=["tail", "noted", "published"])
def stage(request: pytest.FixtureRequest, home: Home, told: dict[str, Path]) -> str:
    """Nothing published; recorded but not sealed; sealed and published."""
    if request.param != "tail":
        home.maintain(seal=request.param == "published")
    return str(request.param)


def test_a_search_in_any_folder_finds_what_was_done_in_all(
    home: Home, told: dict[str, Path], stage: str
) -> None:
    for name in NAMES:
        assert home.found("hinges", project=str(told[name])) == sorted(NAMES)
        assert home.found(f"hinges project:{told[name]}") == sorted(NAMES)
    assert home.found("hinges", project="shop") == sorted(NAMES)
    assert home.found("hinges", project=str(told["other"])) == ["other"]
    assert home.found("hinges", project=str(told["main"].parent)) == sorted(told)
    assert home.found(f"hinges -project:{told['worktree']}") == ["like", "other"]
    where = f"project:{told['worktree']}"
    for query in (where, f'{where} "the hinges"', f"{where} re:hin.es", f"{where} re:hin.es gate"):
        assert home.found(query) == sorted(NAMES)


def test_sessions_and_counts_name_the_main_folder(home: Home, told: dict[str, Path], stage: str) -> None:
    sessions = home.app.views.sessions(project=str(told["worktree"]))
    assert {s.session for s in sessions} == set(NAMES)
    assert {s.project for s in sessions} == {str(told["main"])}
    assert {s.session: s.project for s in home.app.views.sessions()}["other"] == str(told["other"])


def test_a_rows_own_folder_stays_visible(home: Home, told: dict[str, Path]) -> None:
    [turn] = home.app.views.timeline(session="worktree").turns
    assert turn.project == str(told["worktree"])


def test_stats_count_a_project_as_one(
    home: Home,
    told: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(home.folder))
    home.maintain(seal=False)
    assert main(["stats", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["actions"] == said["sessions"] == len(told) < home.app.log.head().position
    counted = {p["name"]: p for p in said["projects"]}
    assert set(counted) == {str(told[name]) for name in ("main", "other", "like")}
    assert counted[str(told["main"])]["sessions"] == counted[str(told["main"])]["prompts"] == 3
    assert main(["stats", "--json", "--project", str(told["sub"])]) == 0
    assert json.loads(capsys.readouterr().out)["sessions"] == 3


def test_the_hook_as_claude_code_runs_it_and_maintenance_as_it_starts_it(
    home: Home, repository: Path, git: Git, tmp_path: Path
) -> None:
    """Nothing of ours in between: processes write, a search in the worktree finds the main folder's words."""
    git(repository, "worktree", "add", "-q", str(tmp_path / "fix"))
    for session, folder in (("s-1", repository), ("s-2", tmp_path / "fix")):
        said = {"session_id": session, "cwd": str(folder), "hook_event_name": "UserPromptSubmit"}
        command = [sys.executable, "-I", "-S", str(hook.__file__), "--data-dir", str(home.folder)]
        payload = json.dumps({**said, "prompt": f"oil the hinges for {session}"})
        subprocess.run(command, input=payload.encode(), check=True)
    environment = {**os.environ, "SESSION_MGMT_DATA_DIR": str(home.folder)}
    words = [sys.executable, "-P", "-m", "session_mgmt_mcp", "maintain", "--once"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert home.seen() == {str(tmp_path / "fix"): str(repository)}
    assert home.found("hinges", project=str(tmp_path / "fix")) == ["s-1", "s-2"]
