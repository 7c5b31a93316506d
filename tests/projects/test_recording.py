"""What maintenance records of working folders, once, and keeps knowing."""

import shutil
from pathlib import Path

import pytest
from tests.projects.conftest import Git, Home

from session_mgmt_mcp.projections.projects import ProjectsReader
from session_mgmt_mcp.projections.tail import QueryReader
from session_mgmt_mcp.projections.views import Views
from session_mgmt_mcp.tools import projects


@pytest.fixture
def worktree(repository: Path, git: Git, tmp_path: Path) -> Path:
    git(repository, "worktree", "add", "-q", str(tmp_path / "fix"))
    return tmp_path / "fix"


def test_a_folder_that_is_not_its_projects_root_is_recorded_once(
    home: Home, repository: Path, worktree: Path, tmp_path: Path
) -> None:
    for number, folder in enumerate((worktree, repository, repository / "api", tmp_path, "/nowhere")):
        home.prompt(folder, f"words {number}", f"s-{number}")
    for seal in (False, True):
        home.prompt(worktree, "more", "s-0")
        home.maintain(seal=seal)
    assert home.seen() == {str(worktree): str(repository), str(repository / "api"): str(repository)}


def test_what_was_recorded_outlives_the_views(home: Home, repository: Path, worktree: Path) -> None:
    home.prompt(worktree, "words", "s-1")
    home.maintain()
    home.app.views.close()
    shutil.rmtree(home.folder / "views")
    home.prompt(worktree, "more words", "s-2")
    home.maintain()
    assert home.seen() == {str(worktree): str(repository)}


def test_a_worktree_that_was_removed_stays_known(
    home: Home, repository: Path, worktree: Path, git: Git
) -> None:
    home.prompt(worktree, "oil the hinges", "s-1")
    home.maintain(seal=False)
    git(repository, "worktree", "remove", "--force", str(worktree))
    home.prompt(worktree, "told late", "s-1")
    home.maintain(seal=False)
    assert home.seen() == {str(worktree): str(repository)}
    assert home.found("hinges", project=str(repository)) == ["s-1"]


def test_a_folder_that_came_under_git_later_is_recorded_then(home: Home, tmp_path: Path, git: Git) -> None:
    work = tmp_path / "work"
    (work / "api").mkdir(parents=True)
    home.prompt(work / "api", "before", "s-1")
    home.maintain(seal=False)
    assert home.seen() == {}
    git(work, "init", "-q")
    home.prompt(work / "api", "after", "s-2")
    home.maintain()
    assert home.seen() == {str(work / "api"): str(work)}
    assert [s.project for s in home.app.views.sessions()] == [str(work)] * 2


def test_history_too_long_to_interpret_again_is_looked_at_in_the_view(
    home: Home, repository: Path, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "EVENTS_MAX", 3)
    for number in range(8):
        home.prompt(f"/nowhere/{number}", "words", f"s-{number}")
    home.prompt(worktree, "words", "s-9")
    home.maintain()
    assert home.seen() == {str(worktree): str(repository)}
    assert projects.note_new(home.app.log)
    with monkeypatch.context() as patch:
        patch.setattr(home.app.log, "read", lambda *a: pytest.fail("looked at again"))
        assert projects.note_new(home.app.log)


def test_more_folders_than_one_pass_looks_up_are_left_to_the_next(
    home: Home, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "FOLDERS_MAX", 2)
    folders = [repository / f"part-{number}" for number in range(5)]
    for number, folder in enumerate(folders):
        home.prompt(folder, "words", f"s-{number}")
    counts = []
    for _ in range(4):
        projects.note_new(home.app.log)
        counts.append(len(home.seen()))
    assert counts == [2, 4, 5, 5]
    assert home.seen() == {str(folder): str(repository) for folder in folders}


def test_a_damaged_state_is_as_good_as_none(home: Home, repository: Path, worktree: Path) -> None:
    home.prompt(worktree, "words", "s-1")
    home.maintain()
    for damage in (b"", b"{", b'{"version":1}', b"[]", b"\xff"):
        (home.folder / "views" / "projects.json").write_bytes(damage)
        assert projects.note_new(home.app.log)
    assert home.seen() == {str(worktree): str(repository)}


def test_nothing_of_it_is_in_an_answer_or_counts_as_done(home: Home, worktree: Path) -> None:
    home.prompt(worktree, "oil the hinges", "s-1")
    for seal in (False, True):
        home.maintain(seal=seal)
        views = home.app.views
        assert [m.kind for m in views.search(f"project:{worktree}")] == ["PromptSubmitted"]
        assert views.search("", regex="belongs to") == [] == views.search("belongs project")
        assert [s.session for s in views.sessions()] == ["s-1"]
        assert [turn.kind for turn in views.timeline().turns] == ["PromptSubmitted"]


def test_the_state_holds_no_folder(home: Home, repository: Path, worktree: Path) -> None:
    home.prompt(worktree, "words", "s-1")
    home.maintain(seal=False)
    said = (home.folder / "views" / "projects.json").read_text()
    assert home.seen() and str(worktree) not in said and "shop" not in said


def test_a_server_that_runs_takes_in_what_another_process_recorded(
    home: Home, repository: Path, worktree: Path, git: Git
) -> None:
    other = Views(home.app.log, home.folder)
    home.prompt(worktree, "oil the hinges", "s-1")
    assert [m.session for m in other.search("hinges", project=str(repository))] == ["s-1"]
    home.maintain()
    git(repository, "worktree", "remove", "--force", str(worktree))
    git(repository, "worktree", "add", "-q", str(worktree.with_name("fix-2")))
    home.prompt(worktree.with_name("fix-2"), "oil more hinges", "s-2")
    found = other.search("hinges", project=str(repository))
    assert sorted(m.session for m in found) == ["s-1", "s-2"]
    other.close()


def test_what_was_forgotten_since_counts_no_more(home: Home, repository: Path, worktree: Path) -> None:
    home.prompt(worktree, "words", "s-1")
    home.maintain(seal=False)
    reader = QueryReader(home.app.log, home.folder / "views")
    reader.refresh()
    shutil.rmtree(worktree)
    assert ProjectsReader().current(reader).root_of(str(worktree)) == str(repository)
    reader.hidden.update(row.id for row in reader.rows.values() if row.origin == "ProjectSeen")
    assert ProjectsReader().current(reader).root_of(str(worktree)) == str(worktree)
    reader.close()
