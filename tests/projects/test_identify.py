"""Which project a folder is of, by git's files: compared with real repositories, and with whatever else lies there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.projects.conftest import Git

from session_mgmt_mcp.core.project import PATH_BYTES_MAX, Project, identify


def root(folder: Path | str) -> str:
    return identify(str(folder)).root


def test_subfolders_and_worktrees_are_the_repository(repository: Path, git: Git, tmp_path: Path) -> None:
    beside, inside = tmp_path / "fix", repository / ".worktrees" / "fix-2"
    git(repository, "worktree", "add", "-q", str(beside))
    git(repository, "worktree", "add", "-q", str(inside))
    (beside / "api").mkdir()
    wanted = Project(str(repository), str(repository / ".git"))
    for folder in (repository, repository / "api" / "v1", beside, beside / "api", inside):
        assert identify(str(folder)) == wanted
        shared = git(folder, "rev-parse", "--path-format=absolute", "--git-common-dir").strip()
        assert os.path.realpath(shared) == wanted.common_dir


def test_a_worktree_with_relative_paths_is_the_repository(repository: Path, git: Git, tmp_path: Path) -> None:
    beside = tmp_path / "fix"
    git(repository, "worktree", "add", "-q", str(beside))
    (beside / ".git").write_text("gitdir: ../shop/.git/worktrees/fix\n")
    assert root(beside) == str(repository)


def test_a_submodule_is_a_project_of_its_own_with_its_worktrees(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    git(library, "commit", "-q", "--allow-empty", "-m", "begin")
    git(repository, "submodule", "--quiet", "add", str(library), "vendored")
    git(repository / "vendored", "worktree", "add", "-q", str(tmp_path / "vendored-fix"))
    assert root(repository / "vendored") == str(repository / "vendored")
    assert root(tmp_path / "vendored-fix") == str(repository / "vendored")
    assert root(repository) == str(repository) and root(library) == str(library)


def test_worktrees_of_a_bare_repository_are_that_repository(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "shop.git")
    git(tmp_path / "shop.git", "worktree", "add", "-q", str(tmp_path / "fix"))
    assert root(tmp_path / "fix") == root(tmp_path / "shop.git") == str(tmp_path / "shop.git")


def test_a_folder_around_a_bare_repository_stands_for_its_worktrees(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    around = tmp_path / "around"
    around.mkdir()
    git(around, "clone", "-q", "--bare", str(repository), ".bare")
    (around / ".git").write_text("gitdir: ./.bare\n")
    git(around, "worktree", "add", "-q", "trunk")
    assert root(around / "trunk") == root(around) == str(around)


def test_a_repository_kept_elsewhere_is_its_working_folder(git: Git, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    git(tmp_path / "work", "init", "-q", f"--separate-git-dir={tmp_path / 'store'}")
    assert identify(str(tmp_path / "work")) == Project(str(tmp_path / "work"), str(tmp_path / "store"))


def test_a_link_to_a_folder_is_what_it_leads_to(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repository / "api")
    assert root(tmp_path / "link") == root(f"{tmp_path}/link/v1/") == str(repository)


def test_a_folder_without_git_is_itself(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert identify(f"{tmp_path}/notes/") == Project(f"{tmp_path}/notes", "")


def test_a_folder_that_is_gone_is_of_what_lies_above_it(repository: Path, git: Git, tmp_path: Path) -> None:
    inside = repository / "worktrees" / "fix"
    git(repository, "worktree", "add", "-q", str(inside))
    git(repository, "worktree", "remove", str(inside))
    shutil.rmtree(repository / "worktrees", ignore_errors=True)
    assert root(inside) == root(repository / "never" / "was") == str(repository)
    assert root(tmp_path / "gone" / "too") == str(tmp_path / "gone" / "too")


def test_a_worktree_whose_repository_is_gone_names_it_still(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "fix"))
    shutil.rmtree(repository)
    assert root(tmp_path / "fix") == str(repository)


def test_a_repository_in_the_home_folder_does_not_swallow_what_lies_below(
    repository: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "notes").mkdir()
    assert root(tmp_path / "notes") == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert root(tmp_path / "notes") == str(tmp_path / "notes")
    assert root(tmp_path) == str(tmp_path) and root(repository / "api") == str(repository)


@pytest.mark.parametrize(
    "said", ["", "gitdir:", "gitdir: /nowhere", "nonsense", "gitdir: \0", "\xff\xfe", "gitdir: " + "x" * 9000]
)
def test_a_broken_git_file_raises_nothing(said: str, tmp_path: Path) -> None:
    (tmp_path / "work" / "api").mkdir(parents=True)
    (tmp_path / "work" / ".git").write_text(said, "latin-1")
    assert root(tmp_path / "work" / "api") in (str(tmp_path / "work"), str(tmp_path / "work" / "api"))


def test_a_pipe_named_like_a_repository_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".git")
    assert root(tmp_path) == str(tmp_path)
    (tmp_path / "work" / "private").mkdir(parents=True)
    (tmp_path / "work" / ".git").write_text("gitdir: private")
    os.mkfifo(tmp_path / "work" / "private" / "commondir")
    assert root(tmp_path / "work") == str(tmp_path / "work")


@pytest.mark.parametrize(
    "folder, wanted",
    [
        ("", ""),
        ("/", "/"),
        ("///", "/"),
        ("C:\\work\\shop\\", "C:\\work\\shop"),
        ("work/shop/", "work/shop"),
        ("/nowhere\0/x", "/nowhere\0/x"),
        ("/nowhere/\ud800", "/nowhere/\ud800"),
        ("/nowhere/" + "x" * 300, "/nowhere/" + "x" * 300),
        ("/x" * PATH_BYTES_MAX, "/x" * PATH_BYTES_MAX),
    ],
)
def test_what_is_no_folder_here_is_itself(folder: str, wanted: str) -> None:
    assert identify(folder) == Project(wanted, "")


_PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["/", "//", "\\", ".", "..", ".git", "tmp", "\0", "C:", "~", "worktrees"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_PIECES, max_size=12))
def test_no_text_makes_it_raise_and_its_root_is_its_own_root(pieces: list[str]) -> None:
    for folder in ("/".join(pieces), "/" + "/".join(pieces), "".join(pieces)):
        found = identify(folder)
        assert found.root or not folder
        assert identify(found.root).root == found.root


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.binary(max_size=80), shared=st.binary(max_size=40), deep=st.integers(0, 3))
def test_no_content_of_gits_files_makes_it_raise(
    said: bytes, shared: bytes, deep: int, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    below = work.joinpath(*["in"] * deep)
    (work / "p").mkdir(parents=True, exist_ok=True)
    below.mkdir(parents=True, exist_ok=True)
    for content in (said, b"gitdir: " + said, b"gitdir: p"):
        (work / ".git").write_bytes(content)
        (work / "p" / "commondir").write_bytes(shared)
        (work / "p" / "config").write_bytes(b"worktree = " + said)
        assert identify(str(below)).root


def test_a_hook_can_afford_it() -> None:
    """Nothing is imported that a bare interpreter has not loaded, beside the log's own light modules."""
    folder = Path(sys.modules["session_mgmt_mcp"].__file__ or "").parent.parent
    code = (
        f"import os, sys; before = set(sys.modules); sys.path.append({str(folder)!r})\n"
        "from session_mgmt_mcp.core.project import identify\nidentify('/')\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('session_mgmt_mcp')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"errno", "fcntl", "_sha256", "_sha2"}
