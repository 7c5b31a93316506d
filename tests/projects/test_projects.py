"""What recorded folders and joins come to: pure, without a log."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.core.envelope import Envelope, Event, EventType
from session_mgmt_mcp.core.events import ProjectJoined, ProjectSeen
from session_mgmt_mcp.projections.filters import Filters, filters_of
from session_mgmt_mcp.projections.projects import Noted, Projects
from session_mgmt_mcp.projections.rows import interpret_event


def noted(*payloads: ProjectSeen | ProjectJoined) -> Projects:
    """From events, as the log would hold them."""
    rows = []
    for position, said in enumerate(payloads, 1):
        kind = EventType.PROJECT_SEEN if isinstance(said, ProjectSeen) else EventType.PROJECT_JOINED
        envelope = Envelope("session-mgmt/log", kind, 1, 1, 1, "system", "command")
        event = Event(position, position.to_bytes(16, "big"), envelope, msgspec.json.encode(said))
        rows += [Noted(r.id, r.origin, r.project, r.text) for r in interpret_event(event).rows]
    return Projects.noted(rows)


SHOP = Projects({"/w/fix": "/shop", "/shop/api": "/shop", "/other/api": "/other"}, {"/old": "/shop"})


def test_the_last_word_on_a_folder_counts() -> None:
    found = noted(ProjectSeen("/w", "/a"), ProjectSeen("/w", "/b"))
    assert found.root_of("/w") == "/b"


@pytest.mark.parametrize(
    "odd", [" is one project with ", " belongs to the project ", "/a is one project with /b"]
)
def test_folders_with_the_words_of_an_event_are_told_apart(odd: str) -> None:
    found = noted(ProjectSeen(f"/x{odd}", f"/y{odd}z"), ProjectJoined(f"/y{odd}z", f"/n{odd}"))
    assert found.own_root(f"/x{odd}") == f"/y{odd}z"
    assert found.root_of(f"/x{odd}") == f"/n{odd}"


def test_joins_are_followed_and_the_last_one_counts() -> None:
    joined = (ProjectJoined("/a", "/b"), ProjectJoined("/b", "/c"))
    assert noted(*joined).root_of("/a") == "/c"
    assert noted(*joined).roots("/b") == ("/c", "/a", "/b")
    assert noted(*joined, ProjectJoined("/a", "/d")).root_of("/a") == "/d"
    assert noted(*joined, ProjectJoined("/b", "/b")).root_of("/a") == "/b"


def test_a_project_has_its_worktrees_subfolders_and_earlier_roots() -> None:
    assert SHOP.folders("/old") == SHOP.folders("/shop") == ("/old", "/shop", "/shop/api", "/w/fix")
    assert SHOP.folders("/other") == ("/other", "/other/api")


@pytest.mark.parametrize(
    "value, others",
    [
        ("/shop", ("/old", "/w/fix")),
        ("/shop/api/", ("/old", "/shop", "/w/fix")),
        ("/w/fix", ("/old", "/shop")),
        ("/w", ()),
        ("/", ()),
        ("/nowhere", ()),
        ("shop", ("/old", "/shop", "/w/fix")),
        ("old", ("/old", "/shop", "/w/fix")),
        ("api", ()),  # a subfolder's name is not its project's
        ("fix", ()),
    ],
)
def test_a_filter_is_widened_to_the_folders_of_what_it_means(value: str, others: tuple[str, ...]) -> None:
    assert SHOP.widened(value) == (value, *others)


def test_widened_filters_find_and_leave_out_all_folders() -> None:
    filters = SHOP.widen(filters_of(project="/shop", tool="Bash"))
    assert dict(filters.any_of) == {"project": ("/shop", "/old", "/w/fix"), "tool": ("Bash",)}
    without = SHOP.widen(Filters(none_of=(("project", "/w/fix"), ("tool", "shop"))))
    assert without.none_of == (
        ("project", "/w/fix"),
        ("project", "/old"),
        ("project", "/shop"),
        ("tool", "shop"),
    )


_ROOTS = st.sampled_from([f"/nowhere-{name}" for name in "abcdef"])


@given(st.dictionaries(_ROOTS, _ROOTS), _ROOTS)
def test_whatever_was_joined_every_root_is_of_exactly_one_project(joins: dict[str, str], root: str) -> None:
    """Circles too, which logs that were written side by side could hold."""
    found = Projects({}, joins)
    first = found.canonical(root)
    assert found.canonical(first) == first
    assert found.roots(root) == found.roots(first) and root in found.roots(root)
    assert all(found.canonical(other) == first for other in found.roots(root))
