"""`projects`: listing, joining what was moved, separating it again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.projects.conftest import Git, Home

from session_mgmt_mcp.tools.cli import main

Run = Callable[..., Any]


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(home.folder))

    def call(*words: Path | str, code: int = 0) -> Any:
        assert main(["projects", "--json", *map(str, words)]) == code
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def moved(home: Home, repository: Path, tmp_path: Path) -> Path:
    """A repository with a session, moved; its new folder, which has seen another session."""
    home.prompt(repository, "oil the hinges", "s-old")
    home.prompt(repository / "api", "paint the gate", "s-old")
    home.maintain(seal=False)
    repository.rename(tmp_path / "store")
    home.prompt(tmp_path / "store", "oil more hinges", "s-new")
    return tmp_path / "store"


def roots(said: Any) -> dict[str, tuple[list[str], int]]:
    return {p["root"]: (p["roots"], p["sessions"]) for p in said["projects"]}


def test_projects_are_listed_with_their_folders_the_last_active_first(
    run: Run, moved: Path, repository: Path
) -> None:
    first, second = run()["projects"]
    assert (first["root"], first["folders"], first["sessions"]) == (str(moved), [str(moved)], 1)
    assert second["folders"] == [str(repository), str(repository / "api")]
    assert first["last_at"] > second["last_at"] > 0
    assert run("list") == run()


def test_a_moved_folder_goes_on_under_its_new_name_and_back(
    run: Run, home: Home, moved: Path, repository: Path
) -> None:
    done = run("join", repository / "api", moved)
    assert (done["old"], done["new"]) == (str(repository), str(moved)) and done["position"] > 0
    assert roots(run()) == {str(moved): ([str(repository)], 2)}
    for project in (str(moved), str(repository), "shop", "store"):
        assert home.found("hinges", project=project) == ["s-new", "s-old"]
    home.maintain()
    assert home.found("hinges", project=str(moved)) == ["s-new", "s-old"]
    assert {s.project for s in home.app.views.sessions()} == {str(moved)}
    run("separate", "shop")
    assert roots(run()) == {str(moved): ([], 1), str(repository): ([], 1)}
    assert home.found("hinges", project=str(moved)) == ["s-new"]


def test_joining_again_changes_nothing(run: Run, home: Home, moved: Path, repository: Path) -> None:
    run("join", repository, moved)
    head = home.app.log.head()
    assert run("join", "shop", "store")["position"] == 0
    assert home.app.log.head() == head


def test_joins_go_on_from_one_to_the_next(
    run: Run, home: Home, moved: Path, repository: Path, tmp_path: Path
) -> None:
    run("join", repository, moved)
    moved.rename(tmp_path / "market")
    run("join", moved, tmp_path / "market")
    home.prompt(tmp_path / "market", "no hinges left", "s-last")
    assert roots(run()) == {str(tmp_path / "market"): ([str(repository), str(moved)], 3)}
    assert home.found("hinges", project="shop") == ["s-last", "s-new", "s-old"]


def test_a_circle_is_refused_with_the_way_out(run: Run, moved: Path, repository: Path) -> None:
    run("join", repository, moved)
    said = run("join", moved, repository, code=2)["error"]["message"]
    assert f"projects separate {repository}" in said
    run("separate", repository)
    assert run("join", moved, repository)["position"] > 0
    assert roots(run()) == {str(repository): ([str(moved)], 2)}


def test_what_nobody_knows_is_refused(run: Run, home: Home, moved: Path, tmp_path: Path) -> None:
    head = home.app.log.head()
    for words in (("join", "/nowhere", moved), ("join", moved, "/nowhere"), ("separate", "nothing")):
        assert "nothing is recorded" in run(*words, code=2)["error"]["message"]
    assert "joined to nothing" in run("separate", moved, code=2)["error"]["message"]
    assert home.app.log.head() == head


def test_separating_what_others_were_joined_to_names_them(run: Run, moved: Path, repository: Path) -> None:
    run("join", repository, moved)
    assert str(repository) in run("separate", moved, code=2)["error"]["message"]


def test_a_name_of_two_projects_is_refused_with_both(run: Run, home: Home, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        home.prompt(tmp_path / parent / "shop", "words", f"s-{parent}")
    said = run("join", "shop", tmp_path, code=2)["error"]["message"]
    assert str(tmp_path / "a" / "shop") in said and str(tmp_path / "b" / "shop") in said


def test_worktrees_of_a_moved_repository_go_along(
    run: Run, home: Home, repository: Path, git: Git, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "fix"))
    home.prompt(tmp_path / "fix", "oil the hinges", "s-1")
    home.maintain(seal=False)
    shutil.rmtree(tmp_path / "fix")
    repository.rename(tmp_path / "store")
    run("join", repository, tmp_path / "store")
    assert home.found("hinges", project=str(tmp_path / "store")) == ["s-1"]


def test_people_see_a_line_a_project(
    home: Home, moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(home.folder))
    assert main(["projects"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == [
        str(moved),
        str(moved.parent / "shop"),
        str(moved.parent / "shop/api"),
    ]
    assert main(["projects", "join", "shop", str(moved)]) == 0
    assert "goes on as" in capsys.readouterr().out


def test_an_empty_log_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == {"projects": []}
    assert main(["projects"]) == 0
    assert "no project yet" in capsys.readouterr().err
