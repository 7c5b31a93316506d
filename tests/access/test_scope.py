"""Which working folders a grant lets see: below, worktrees, joined ones, and nothing that only looks so."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_mgmt_mcp.projections.projects import Projects
from session_mgmt_mcp.projections.scope import Scope, scope_of, scoped_projects

PROJECTS = Projects(
    {
        "/srv/mill": "/srv/mill",
        "/srv/mill/src": "/srv/mill",
        "/tmp/mill-tree": "/srv/mill",
        "/srv/old-mill": "/srv/old-mill",
        "/srv/bank": "/srv/bank",
        "/tmp/bank-tree": "/srv/bank",
    },
    {"/srv/old-mill": "/srv/mill"},
)


@pytest.mark.parametrize(
    "project",
    ["/srv/mill", "/srv/mill/", "/srv/mill/src/deep", "/tmp/mill-tree/x", "/srv/old-mill", "/srv/mill\\win"],
)
def test_a_project_is_seen_with_its_folders_worktrees_and_joined_roots(project: str) -> None:
    assert scope_of(PROJECTS, ("/srv/mill",)).sees(project)


@pytest.mark.parametrize(
    "project",
    [
        *(
            "",
            "/",
            "/srv",
            "/srv/bank",
            "/srv/mill2",
            "/srv/mil",
            "srv/mill",
            "/tmp",
            "/tmp/bank-tree",
            "mill",
        ),
        *(
            "/srv/MILL",
            "/x/srv/mill",
            "/srv/mill/../bank",
            "/srv/mill/..",
            "/srv/mill\\..\\bank",
            "//srv/mill",
        ),
    ],
)
def test_nothing_else_is_seen(project: str) -> None:
    assert not scope_of(PROJECTS, ("/srv/mill",)).sees(project)


def test_the_old_root_opens_what_it_was_joined_with() -> None:
    assert scope_of(PROJECTS, ("/srv/old-mill",)).sees("/srv/mill/src")


def test_a_worktree_or_a_subfolder_opens_itself_alone() -> None:
    assert scope_of(PROJECTS, ("/tmp/mill-tree",)).folders == ("/tmp/mill-tree",)
    assert not scope_of(PROJECTS, ("/srv/mill/src",)).sees("/srv/mill")


def test_no_grant_sees_nothing() -> None:
    assert not Scope(()).sees("/srv/mill")
    with duckdb.connect() as connection:
        sql = f"SELECT count(*) FROM (SELECT '/srv/mill' AS project) WHERE {Scope(()).sql()}"
        assert connection.execute(sql).fetchall() == [(0,)]


def test_visible_projects_name_no_other_and_are_not_looked_up_on_the_disk() -> None:
    scope = scope_of(PROJECTS, ("/srv/mill",))
    seen = scoped_projects(PROJECTS, scope)
    assert seen.folders("/srv/mill") == ("/srv/mill", "/srv/mill/src", "/srv/old-mill", "/tmp/mill-tree")
    assert seen.root_of("/tmp/bank-tree") == "/tmp/bank-tree"
    assert seen.own_roots("bank") == () == seen.own_roots("/srv/bank")
    assert seen.meant("mill") == ("/srv/mill",)
    below = scoped_projects(PROJECTS, scope_of(PROJECTS, ("/tmp/mill-tree",)))
    assert below.root_of("/tmp/mill-tree") == "/tmp/mill-tree"


CONNECTION = duckdb.connect()
PARTS = st.lists(
    st.sampled_from(["mill", "Mill", "mill2", "..", ".", "a'b", "x%", "_", "\\", "é", "\n"]), max_size=4
)
PATHS = st.builds(
    lambda head, parts, sign, tail: head + sign.join(parts) + tail,
    st.sampled_from(["/", "", "C:\\", "/srv/", "//"]),
    PARTS,
    st.sampled_from(["/", "\\"]),
    st.sampled_from(["", "/", "\\", "/.."]),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(PATHS.filter(lambda p: p.rstrip("/\\")), max_size=3), st.lists(PATHS, min_size=1, max_size=5))
def test_sql_and_python_agree_on_every_path(folders: list[str], projects: list[str]) -> None:
    scope = Scope(tuple(folder.rstrip("/\\") for folder in folders))
    found = CONNECTION.execute(
        f"SELECT {scope.sql()} FROM (SELECT unnest(?) AS project, unnest(?) AS n) ORDER BY n",
        [projects, list(range(len(projects)))],
    ).fetchall()
    assert [bool(seen) for (seen,) in found] == [scope.sees(project) for project in projects]
