"""Which operations a grant covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.core.envelope import Envelope, Event, EventType
from session_mgmt_mcp.projections.permissions import (
    Asked,
    Grant,
    State,
    covers_operation,
    covers_scope,
    decide,
    grants_of,
)


def grant(operation: str = "git push", **fields: object) -> Grant:
    return Grant(**{"grant": "g", "operation": operation, "position": 1, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        ("git push", "git push", True),
        ("git push", "  git   push origin main", True),
        ("git push", "git pushx", False),
        ("git push", "git", False),
        ("git push", "GIT PUSH", False),
        ("git push", "git push; rm -rf /", False),
        ("git push", "git push && rm x", False),
        ("git push", "git push | tee x", False),
        ("git push", "git push > ~/.bashrc", False),
        ("git push", "git push $(rm x)", False),
        ("git push", "git push `rm x`", False),
        ("git push", "git push\nrm x", False),
        ("git push && make", "git push && make", True),
        ("npm run *", "npm run build", True),
        ("npm run *", "npm run build && rm x", False),
        ("npm run *", "npm install", False),
        ("edit ?.py", "edit a.py", True),
        ("edit [ab].py", "edit a.py", False),
        ("", "anything", False),
        ("git push", "", False),
    ],
)
def test_an_operation_is_covered_by_its_first_words_or_a_pattern(
    granted: str, asked: str, covered: bool
) -> None:
    assert covers_operation(granted, asked) is covered


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        ("", "/anywhere", True),
        ("/shop", "/shop", True),
        ("/shop/", "/shop/src/a.py", True),
        ("/shop", "/shop/../etc/passwd", False),
        ("/shop", "/shopping", False),
        ("/shop", "", False),
        ("src", "src/a.py", True),
        ("src", "../src/a.py", False),
        ("src", "/shop/src/a.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/deep/a.py", False),
        ("src/**.py", "src/deep/a.py", True),
        ("/shop/**", "/shop/a/../../etc/passwd", False),
    ],
)
def test_a_scope_is_a_folder_and_all_below_it_or_a_pattern_of_paths(
    granted: str, asked: str, covered: bool
) -> None:
    assert covers_scope(granted, asked) is covered


@given(st.text(max_size=40), st.sampled_from([";", "&", "|", ">", "<", "`", "$(", "\n"]))
def test_nothing_that_joins_commands_is_covered_by_the_first_of_them(rest: str, sign: str) -> None:
    assert not covers_operation("git push", f"git push {sign}x{rest}")
    assert not covers_operation("git *", f"git push {sign}x{rest}")


def test_a_grant_ends_at_its_time_and_when_it_is_taken_back() -> None:
    assert grant(expires_at=100).state(99) is State.HOLDS
    assert grant(expires_at=100).state(100) is State.EXPIRED
    assert grant(revoked_at=5).state(1) is State.REVOKED
    asked = Asked("git push")
    assert decide([grant(expires_at=100)], asked, 99).grant is not None
    found = decide([grant(expires_at=100)], asked, 100)
    assert found.grant is None and found.others[0][1] == "expired"


def test_a_grant_of_a_project_a_session_or_a_scope_covers_nothing_elsewhere() -> None:
    def why(one: Grant, **asked: str) -> str:
        found = decide([one], Asked("git push", **asked), 1)
        return "" if found.grant is not None else found.others[0][1]

    assert why(grant(project="/shop"), project="/shop/src") == ""
    assert why(grant(project="/shop"), project="/barn") == "only in /shop"
    assert why(grant(project="/shop")) == "only in /shop"
    assert why(grant(session="s-1"), session="s-1") == ""
    assert why(grant(session="s-1"), session="s-2") == "only in another session"
    assert why(grant(scope="/shop/src"), scope="/shop/src/a.py") == ""
    assert why(grant(scope="/shop/src")) == "only for /shop/src"


def test_the_newest_grant_that_covers_is_named_and_another_operation_is_none() -> None:
    found = decide([grant(grant="old"), grant(grant="new", position=2)], Asked("git push"), 1)
    assert found.grant is not None and found.grant.grant == "new"
    assert decide([grant()], Asked("rm -rf /"), 1) == (None, ())


def test_grants_and_revocations_are_read_from_events_and_damaged_ones_left_out() -> None:
    def event(position: int, kind: EventType, payload: bytes | None) -> Event:
        envelope = Envelope("session-mgmt/log", kind, 1, position, position, "user", "command")
        return Event(position, bytes(16), envelope, payload)

    found = grants_of(
        [
            event(1, EventType.PERMISSION_GRANTED, b'{"grant":"a","operation":"git push"}'),
            event(2, EventType.PERMISSION_GRANTED, b'{"grant":"b"'),
            event(3, EventType.PERMISSION_GRANTED, None),
            event(4, EventType.PERMISSION_REVOKED, b'{"grant":"a","reason":"enough"}'),
            event(5, EventType.PERMISSION_REVOKED, b'{"grant":"a"}'),
            event(6, EventType.PERMISSION_REVOKED, b'{"grant":"unknown"}'),
        ]
    )
    assert [(g.grant, g.position, g.revoked_at, g.actor) for g in found] == [("a", 1, 4, "user")]
